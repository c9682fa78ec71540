// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	amzDate    = "20060102T150405Z"
	maxSkew    = 5 * time.Minute
)

// authorization is a parsed Authorization header.
type authorization struct {
	accessKeyID, date, region, service string
	signedHeaders                      []string
	signature                          string
}

// Verify checks the Signature Version 4 of r, whose body has been read into
// body, and returns the principal it proves. The signature must be for service
// and for region; an empty region accepts any, for an emulator that serves all
// regions on one address (see RequestRegion). The error is an *Error with the
// code and message that service answers on AWS.
func (c *Credentials) Verify(r *http.Request, body []byte, service, region string) (Principal, error) {
	codes := authCodesOf(service)
	if r.Header.Get("Authorization") == "" {
		return Principal{}, codes.missing("Missing Authentication Token")
	}
	auth, problem := parseAuthorization(r.Header.Get("Authorization"))
	if problem != "" {
		return Principal{}, codes.incomplete(problem)
	}
	cred, known, now := c.lookup(auth.accessKeyID)
	switch token := r.Header.Get("X-Amz-Security-Token"); {
	case !known, !hmac.Equal([]byte(cred.SessionToken), []byte(token)):
		return Principal{}, codes.unrecognized()
	case cred.Expired:
		return Principal{}, codes.expired()
	}
	if problem := auth.checkScope(r, service, region); problem != "" {
		return Principal{}, codes.mismatch(problem)
	}
	if problem := checkDate(r, now); problem != "" {
		return Principal{}, codes.skewed(problem)
	}
	want := auth.sign(cred.SecretAccessKey, r, body)
	if !hmac.Equal([]byte(want), []byte(auth.signature)) {
		return Principal{}, codes.mismatch(signatureMismatch)
	}
	return cred.Principal, nil
}

const signatureMismatch = "The request signature we calculated does not match the signature you provided. " +
	"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."

// RequestRegion is the region a request was signed for, or "" where it bears no
// well-formed signature. It proves nothing before Verify has.
func RequestRegion(r *http.Request) string {
	auth, problem := parseAuthorization(r.Header.Get("Authorization"))
	if problem != "" {
		return ""
	}
	return auth.region
}

// parseAuthorization returns the header's parts, or what is wrong with it in
// AWS's words.
func parseAuthorization(h string) (authorization, string) {
	rest, ok := strings.CutPrefix(h, algorithm+" ")
	if !ok {
		return authorization{}, fmt.Sprintf("Authorization header requires '%s' algorithm.", algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if fields[name] == "" {
			return authorization{}, fmt.Sprintf("Authorization header requires '%s' parameter. Authorization=%s", name, algorithm)
		}
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != terminator {
		return authorization{}, fmt.Sprintf("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", fields["Credential"])
	}
	return authorization{
		accessKeyID: scope[0], date: scope[1], region: scope[2], service: scope[3],
		signedHeaders: strings.Split(fields["SignedHeaders"], ";"),
		signature:     fields["Signature"],
	}, ""
}

// checkScope holds the signature to this service, region and day, and to the
// headers whose forgery would change what the request means. It returns what is
// wrong, or "".
func (a authorization) checkScope(r *http.Request, service, region string) string {
	switch {
	case a.service != service:
		return fmt.Sprintf("Credential should be scoped to correct service: '%s'. ", service)
	case region != "" && a.region != region:
		return "Credential should be scoped to a valid region. "
	case a.date != dateOf(r.Header.Get("X-Amz-Date")):
		return fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			a.date, dateOf(r.Header.Get("X-Amz-Date")), r.Header.Get("X-Amz-Date"))
	case !slices.Contains(a.signedHeaders, "host"):
		return "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
	}
	for _, name := range []string{"X-Amz-Date", "X-Amz-Target", "X-Amz-Security-Token"} {
		if r.Header.Get(name) != "" && !slices.Contains(a.signedHeaders, strings.ToLower(name)) {
			return fmt.Sprintf("'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return ""
}

func dateOf(stamp string) string {
	date, _, _ := strings.Cut(stamp, "T")
	return date
}

// checkDate refuses a request signed more than maxSkew away from now, so that a
// recorded one cannot be replayed later. It returns what is wrong, or "".
func checkDate(r *http.Request, now time.Time) string {
	stamp := r.Header.Get("X-Amz-Date")
	signed, err := time.Parse(amzDate, stamp)
	if err != nil {
		return fmt.Sprintf("Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", stamp)
	}
	early, late := now.Add(-maxSkew), now.Add(maxSkew)
	switch at := now.UTC().Format(amzDate); {
	case signed.Before(early):
		return fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)", stamp, early.UTC().Format(amzDate), at)
	case signed.After(late):
		return fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)", stamp, late.UTC().Format(amzDate), at)
	}
	return ""
}

// sign computes the signature that the holder of secret would have made.
func (a authorization) sign(secret string, r *http.Request, body []byte) string {
	scope := strings.Join([]string{a.date, a.region, a.service, terminator}, "/")
	toSign := strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), scope, hexSum(a.canonicalRequest(r, body))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{a.date, a.region, a.service, terminator} {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, toSign))
}

func (a authorization) canonicalRequest(r *http.Request, body []byte) string {
	var headers strings.Builder
	for _, name := range a.signedHeaders {
		headers.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	payload := sha256.Sum256(body)
	return strings.Join([]string{
		r.Method, canonicalPath(r.URL), canonicalQuery(r.URL), headers.String(),
		strings.Join(a.signedHeaders, ";"), hex.EncodeToString(payload[:]),
	}, "\n")
}

// headerValue finds a signed header also where net/http has moved it out of the
// header map.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	var values []string
	for _, v := range r.Header.Values(name) {
		values = append(values, strings.Join(strings.Fields(v), " "))
	}
	return strings.Join(values, ",")
}

// canonicalPath is escaped twice, as for every service but S3.
func canonicalPath(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		return "/"
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = escape(s)
	}
	return strings.Join(segments, "/")
}

func canonicalQuery(u *url.URL) string {
	var pairs []string
	for name, values := range u.Query() {
		for _, v := range values {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape is the percent-encoding of RFC 3986, which QueryEscape is but for the space.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
