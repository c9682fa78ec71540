// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/volseal/volseal/internal/envelope"
)

// tap stands between the SDK and the wire and takes the data key out of an
// answer before the SDK sees it: the SDK reads answers into pooled buffers, which
// it neither wipes nor lets anybody reach. What the SDK gets is the same answer
// with a key of zeros.
//
// It is careful rather than clever: an answer that does not look exactly as
// KMS's do passes untouched, and the key comes out of the SDK after all.
type tap struct{ next awskms.HTTPClient }

// caught is where a call finds its key, through the context.
type caught struct{ key *envelope.Secret }

type caughtKey struct{}

func withCaught(ctx context.Context) (context.Context, *caught) {
	c := &caught{}
	return context.WithValue(ctx, caughtKey{}, c), c
}

// maxAnswer bounds what is read of an answer: a CiphertextBlob of 6144 bytes in
// base64, and the rest with room to spare.
const maxAnswer = 12 << 10

func (t tap) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.next.Do(req)
	if err != nil {
		return resp, err
	}
	c, expected := req.Context().Value(caughtKey{}).(*caught)
	if !expected || resp.StatusCode != http.StatusOK {
		resp.Body = limited{io.LimitReader(resp.Body, maxAnswer), resp.Body}
		return resp, nil
	}
	defer resp.Body.Close()
	rest, err := c.take(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(rest))
	return resp, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// take reads an answer into memory that is wiped and returns what the SDK may see.
func (c *caught) take(body io.Reader) (rest []byte, err error) {
	page, err := envelope.NewSecret(maxAnswer + base64.StdEncoding.DecodedLen(len(standIn)))
	if err != nil {
		return nil, err
	}
	defer page.Destroy()
	answer, room := page.Bytes()[:maxAnswer], page.Bytes()[maxAnswer:]
	n, err := readAll(body, answer)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	answer = answer[:n]
	if key := plaintextIn(answer); key != nil {
		n, err := base64.StdEncoding.Strict().Decode(room, key)
		if err == nil && n == envelope.DataKeyBytes && !isStandIn(room[:n]) {
			if c.key, err = envelope.SecretFrom(room[:n]); err != nil {
				return nil, err
			}
			copy(key, standIn)
		}
	}
	return bytes.Clone(answer), nil
}

// standIn is 32 zero bytes in base64.
var standIn = base64.StdEncoding.EncodeToString(make([]byte, envelope.DataKeyBytes))

// isStandIn reports whether the SDK decoded what take put there.
func isStandIn(plaintext []byte) bool {
	return bytes.Equal(plaintext, make([]byte, envelope.DataKeyBytes))
}

// plaintextIn returns the base64 of a 32-byte key where it stands in KMS's
// answer, or nil: the member's name must occur once, and its value must be one
// plain string of the right length.
func plaintextIn(answer []byte) []byte {
	const name = `"Plaintext"`
	if bytes.Count(answer, []byte(name)) != 1 {
		return nil
	}
	_, after, _ := bytes.Cut(answer, []byte(name))
	after = bytes.TrimLeft(after, " \t\r\n")
	after, isMember := bytes.CutPrefix(after, []byte(":"))
	after = bytes.TrimLeft(after, " \t\r\n")
	after, isString := bytes.CutPrefix(after, []byte(`"`))
	value, _, ends := bytes.Cut(after, []byte(`"`))
	if !isMember || !isString || !ends || len(value) != len(standIn) {
		return nil
	}
	return value
}

var errAnswerTooLong = errors.New("answer is longer than KMS's can be")

// readAll fills b up to the end of r. Unlike io.ReadAll it never moves to a
// larger buffer, and leaves the smaller one behind.
func readAll(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := r.Read(b[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, errAnswerTooLong
}
