// SPDX-License-Identifier: Apache-2.0

// Package kms is AWS KMS as the envelope package wants it: it pins the key,
// checks the answers, moves plaintext out of the SDK's hands, and says of each
// error who must act. It caches nothing and retries nothing.
package kms

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// API is the part of the SDK's client that is used; NewClient makes one.
type API interface {
	GenerateDataKey(context.Context, *awskms.GenerateDataKeyInput, ...func(*awskms.Options)) (*awskms.GenerateDataKeyOutput, error)
	Decrypt(context.Context, *awskms.DecryptInput, ...func(*awskms.Options)) (*awskms.DecryptOutput, error)
	DescribeKey(context.Context, *awskms.DescribeKeyInput, ...func(*awskms.Options)) (*awskms.DescribeKeyOutput, error)
	GenerateDataKeyWithoutPlaintext(context.Context, *awskms.GenerateDataKeyWithoutPlaintextInput, ...func(*awskms.Options)) (*awskms.GenerateDataKeyWithoutPlaintextOutput, error)
	ReEncrypt(context.Context, *awskms.ReEncryptInput, ...func(*awskms.Options)) (*awskms.ReEncryptOutput, error)
}

// Options of a Client.
type Options struct {
	Timeout  time.Duration                                              // of one call, credentials included: 5 s
	Observer func(operation string, class fault.Class, d time.Duration) // told of each call; None is success; may be nil
}

// Operations lists the names that Options.Observer is told of. A dry run counts
// as its operation does: KMS charges and limits it like any other.
func Operations() []string {
	return []string{operationGenerate, operationDecrypt, operationDescribe, operationGenerateWrapped, operationReEncrypt}
}

const (
	operationGenerate        = "GenerateDataKey"
	operationDecrypt         = "Decrypt"
	operationDescribe        = "DescribeKey"
	operationGenerateWrapped = "GenerateDataKeyWithoutPlaintext"
	operationReEncrypt       = "ReEncrypt"
)

// Client implements envelope.KMS.
type Client struct {
	api API
	o   Options

	mu     sync.Mutex
	worked map[string]bool // key ARNs for which KMS has answered well
}

var _ envelope.KMS = (*Client)(nil)

// New returns a Client that calls api once per request.
func New(api API, o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Observer == nil {
		o.Observer = func(string, fault.Class, time.Duration) {}
	}
	return &Client{api: api, o: o, worked: map[string]bool{}}
}

// Worked tells the client that this key was once usable, from a record older
// than the process. NotFoundException then means that the key is gone; else it
// means that the ARN is wrong.
func (c *Client) Worked(keyARN string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.worked[keyARN] = true
}

// GenerateDataKey has KMS make a 256-bit data key.
func (c *Client) GenerateDataKey(ctx context.Context, keyARN string, ec envelope.Context) (plain *envelope.Secret, wrapped []byte, err error) {
	plain, err = c.call(ctx, operationGenerate, keyARN, func(ctx context.Context) (answer, error) {
		out, err := c.api.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{
			KeyId:             &keyARN,
			KeySpec:           types.DataKeySpecAes256,
			EncryptionContext: ec,
		})
		if err != nil {
			return answer{}, err
		}
		wrapped = out.CiphertextBlob
		return answer{out.Plaintext, out.KeyId}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	if len(wrapped) == 0 || len(wrapped) > maxBlob {
		plain.Destroy()
		return nil, nil, badAnswer("answer-length", "KMS returned a wrapped data key of an impossible length.")
	}
	return plain, wrapped, nil
}

// Decrypt unwraps a data key, with keyARN as KeyId: without it KMS would take a
// blob wrapped by any key that we may use.
func (c *Client) Decrypt(ctx context.Context, keyARN string, ec envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	return c.call(ctx, operationDecrypt, keyARN, func(ctx context.Context) (answer, error) {
		out, err := c.api.Decrypt(ctx, &awskms.DecryptInput{
			KeyId:             &keyARN,
			CiphertextBlob:    wrapped,
			EncryptionContext: ec,
		})
		if err != nil {
			return answer{}, err
		}
		return answer{out.Plaintext, out.KeyId}, nil
	})
}

// answer is what the SDK read of one: the plaintext is its own slice.
type answer struct {
	plaintext []byte
	keyID     *string
}

// call makes one call within the timeout, checks its answer, classifies its
// error and tells the observer.
func (c *Client) call(ctx context.Context, operation, keyARN string, ask func(context.Context) (answer, error)) (key *envelope.Secret, err error) {
	start := time.Now()
	try, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	try, tapped := withCaught(try)
	envelope.Erasing(func() {
		var a answer
		if a, err = ask(try); err == nil {
			key, err = a.take(tapped.key, keyARN)
		} else {
			tapped.key.Destroy()
		}
	})
	if err != nil {
		failed := c.classify(ctx, keyARN, err)
		c.o.Observer(operation, failed.Class, time.Since(start))
		return nil, failed
	}
	c.Worked(keyARN)
	c.o.Observer(operation, fault.None, time.Since(start))
	return key, nil
}

func (c *Client) classify(ctx context.Context, keyARN string, err error) *fault.Error {
	c.mu.Lock()
	worked := c.worked[keyARN]
	c.mu.Unlock()
	f := classify(ctx, err, worked)
	if f == nil { // a dry run would have succeeded, but none was asked for
		return badAnswer("answer-dry-run", "KMS answered a real request as if it were a dry run.")
	}
	return f
}

// maxBlob is the longest CiphertextBlob KMS takes and makes.
const maxBlob = 6144

// take moves the plaintext of an answer into a Secret, or returns the one that
// the tap took out of it; wipes the SDK's slice on each path; and refuses an
// answer for another key or of another length. It owns tapped, which may be nil.
func (a answer) take(tapped *envelope.Secret, keyARN string) (*envelope.Secret, error) {
	defer clear(a.plaintext)
	if aws.ToString(a.keyID) != keyARN {
		tapped.Destroy()
		return nil, badAnswer("answer-key-id", "KMS answered for another key than the one configured.")
	}
	if len(a.plaintext) != envelope.DataKeyBytes {
		tapped.Destroy()
		return nil, badAnswer("answer-length", "KMS returned a data key that is not 32 bytes long.")
	}
	// Zeros are the tap's stand-in, and nobody's key: if only one of the two holds,
	// the SDK and the tap have read one answer differently.
	if isStandIn(a.plaintext) != (tapped != nil) {
		tapped.Destroy()
		return nil, badAnswer("answer-ambiguous", "KMS returned a data key of zeros, or an answer that can be read in two ways.")
	}
	if tapped != nil {
		return tapped, nil
	}
	return envelope.SecretFrom(a.plaintext)
}

// badAnswer blames the way to KMS and never the disk: one empty answer of a proxy
// must not quarantine every volume that happens to ask.
func badAnswer(reason, cause string) *fault.Error {
	return &fault.Error{
		Class:  fault.Unknown,
		Reason: reason,
		Cause:  cause,
		Hint:   "KMS does not do that: check the endpoint and the proxies on the way. Platform operators must look before anything else.",
	}
}
