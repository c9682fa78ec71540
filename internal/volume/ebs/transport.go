// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// plainBody sends request bodies without their WriteTo method.
//
// The SDK closes a request's body as soon as the head of the answer is there.
// When the answer was quick, net/http is only then about to probe whether the
// body has more bytes than it announced. Read on a closed body answers that
// with io.EOF, as it should; the SDK's WriteTo answers io.EOF too, where nil
// would mean the end, so net/http takes it for a failed write and closes the
// connection under the answer that is being read. Long answers, such as the
// list of an instance's volumes, were lost that way once in a few dozen times.
type plainBody struct{ client aws.HTTPClient }

func newPlainBody(client aws.HTTPClient) plainBody {
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	return plainBody{client}
}

// Do implements aws.HTTPClient.
func (p plainBody) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.client.Do(r)
}
