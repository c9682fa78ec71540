// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volseal/volseal/test/lab/aws"
)

// cli runs Debian's awscli against the emulator.
type cli struct {
	path, home string
	world      *world
}

// newCLI skips where there is no aws. Debian's own is preferred to another on
// PATH, for it is the one the lab promises to satisfy.
func newCLI(t *testing.T, w *world) cli {
	t.Helper()
	path := "/usr/bin/aws"
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("aws"); err != nil {
			t.Skip("the aws command is absent: apt-get install awscli")
		}
	}
	return cli{path: path, home: t.TempDir(), world: w}
}

// run returns what `aws kms ARGS` printed, decoded, and its complaint.
func (c cli) run(t *testing.T, p aws.Principal, args ...string) (map[string]any, string) {
	t.Helper()
	cred := credential(p)
	cmd := exec.CommandContext(t.Context(), c.path, append([]string{"kms"}, args...)...)
	cmd.Dir = c.home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "LC_ALL=C.UTF-8", "AWS_PAGER=", "AWS_DEFAULT_OUTPUT=json",
		"AWS_DEFAULT_REGION=" + region, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + cred.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + cred.SecretAccessKey,
	}
	if cred.SessionToken != "" {
		cmd.Env = append(cmd.Env, "AWS_SESSION_TOKEN="+cred.SessionToken)
	}
	cmd.Args = append(cmd.Args, "--endpoint-url", c.world.url) // awscli 2.9 does not read the variable
	stdout, err := cmd.Output()
	complaint := ""
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		complaint = string(e.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if len(strings.TrimSpace(string(stdout))) > 0 {
		if err := json.Unmarshal(stdout, &out); err != nil {
			t.Fatalf("aws kms %s printed %q: %v", strings.Join(args, " "), stdout, err)
		}
	}
	return out, complaint
}

// do is run for a command that must succeed.
func (c cli) do(t *testing.T, p aws.Principal, args ...string) map[string]any {
	t.Helper()
	out, complaint := c.run(t, p, args...)
	if complaint != "" {
		t.Fatalf("aws kms %s: %s", strings.Join(args, " "), complaint)
	}
	return out
}

// A client that nobody here wrote gets through the life of a shared key: it
// checks the emulator's protocol independently of the SDK the product uses.
func TestAWSCLI(t *testing.T) {
	t.Parallel() // each command takes a second to start
	w := newWorld(t, "")
	c := newCLI(t, w)
	owner := aws.Root(aws.CustomerAccount)
	policy := filepath.Join(c.home, "policy.json")
	ok(t, os.WriteFile(policy, []byte(sharedPolicy(aws.CustomerAccount)), 0o600))
	metadata, _ := c.do(t, owner, "create-key", "--description", "orders", "--policy", "file://"+policy)["KeyMetadata"].(map[string]any)
	arn, _ := metadata["Arn"].(string)
	if metadata["KeyState"] != "Enabled" || !strings.HasPrefix(arn, "arn:aws:kms:us-east-1:111111111111:key/") {
		t.Fatalf("create-key: %v", metadata)
	}
	c.do(t, owner, "create-alias", "--alias-name", "alias/orders", "--target-key-id", arn)

	made := c.do(t, platformHost, "generate-data-key", "--key-id", arn, "--key-spec", "AES_256", "--encryption-context", "volseal:database=db-1")
	wrapped, _ := made["CiphertextBlob"].(string)
	decrypt := []string{"decrypt", "--key-id", arn, "--ciphertext-blob", wrapped, "--cli-binary-format", "base64", "--encryption-context"}
	got := c.do(t, platformHost, append(decrypt, "volseal:database=db-1")...)
	if got["Plaintext"] != made["Plaintext"] || got["KeyId"] != arn {
		t.Errorf("decrypt: %v, of %v", got, made)
	}
	complains := func(want string, p aws.Principal, args ...string) {
		t.Helper()
		if _, complaint := c.run(t, p, args...); !strings.Contains(complaint, want) {
			t.Errorf("aws kms %s complains %q, want %q", args[0], complaint, want)
		}
	}
	complains("(InvalidCiphertextException)", platformHost, append(decrypt, "volseal:database=db-2")...)
	complains("(AccessDeniedException) when calling the DisableKey operation: User: "+platformHost.ARN, platformHost, "disable-key", "--key-id", arn)
	c.do(t, owner, "disable-key", "--key-id", arn)
	complains("(DisabledException) when calling the Decrypt operation: "+arn+" is disabled.", platformHost, append(decrypt, "volseal:database=db-1")...)
	described, _ := c.do(t, owner, "describe-key", "--key-id", "alias/orders")["KeyMetadata"].(map[string]any)
	if described["KeyState"] != "Disabled" || described["Arn"] != arn {
		t.Errorf("describe-key by alias: %v", described)
	}
}
