// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	lab "github.com/volseal/volseal/test/lab/aws"
	emulator "github.com/volseal/volseal/test/lab/kms"
)

// TestAlias protects whoever was given an alias: it is refused, with the key
// behind it where that can be told, and no key of another region is asked about.
func TestAlias(t *testing.T) {
	creds := lab.NewCredentials()
	creds.Add(lab.Credential{AccessKeyID: "HOST", SecretAccessKey: "s", Principal: lab.AssumedRole(lab.PlatformAccount, "volseal-host", "i-1")})
	creds.Add(lab.Credential{AccessKeyID: "OWNER", SecretAccessKey: "s", Principal: lab.Root(lab.CustomerAccount)})
	server := emulator.New(emulator.Options{Credentials: creds})
	web := httptest.NewServer(server)
	defer web.Close()
	as := func(id string) aws.Config {
		return aws.Config{Region: "us-east-1", BaseEndpoint: &web.URL, Credentials: aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: id, SecretAccessKey: "s"}, nil
			})}
	}
	arn, err := server.CreateKey(lab.CustomerAccount, "us-east-1", "", "", true)
	if err != nil {
		t.Fatal(err)
	}
	owner := awskms.NewFromConfig(as("OWNER"))
	if _, err := owner.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/orders"), TargetKeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	c := &connector{made: &connection{region: "us-east-1", kms: kms.New(kms.NewClient(as("HOST")), kms.Options{})}}
	for alias, told := range map[string]bool{
		"arn:aws:kms:us-east-1:111111111111:alias/orders": true,
		"arn:aws:kms:us-east-1:111111111111:alias/others": false,
		"arn:aws:kms:eu-west-1:111111111111:alias/orders": false,
	} {
		err := c.refuseARN(t.Context(), alias)
		if fault.ReasonOf(err) != "alias" || fault.ClassOf(err) != fault.Misconfigured || strings.Contains(fault.HintOf(err), arn) != told {
			t.Errorf("%s: %v, hint %q", alias, err, fault.HintOf(err))
		}
	}
}
