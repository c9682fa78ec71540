// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/volseal/volseal/test/lab/world"
)

// What `lab cloud` prints is what a shell and real clients understand, and it
// ends, leaving nothing, when it is told to.
func TestCloud(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- cloud(ctx, "", world.Options{}, in)
		_ = in.Close()
	}()
	var script strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		script.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "AWS_EC2_METADATA_SERVICE_ENDPOINT") { // the last
			break
		}
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_EC2", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "LABCTL_URL"} {
		if !strings.Contains(script.String(), "export "+name+"=") {
			t.Errorf("it does not print %s:\n%s", name, script.String())
		}
	}
	if _, err := os.Stat("/usr/bin/aws"); err == nil { // Debian's, which knows no endpoints in the environment
		t.Run("awscli", func(t *testing.T) { askAWSCLI(t, script.String()) })
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	left, err := os.ReadDir(scratch)
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func askAWSCLI(t *testing.T, settings string) {
	cmd := exec.CommandContext(t.Context(), "bash", "-ec", settings+`
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN # the instance role must do
/usr/bin/aws --endpoint-url "$AWS_ENDPOINT_URL_EC2" ec2 describe-instances --query 'length(Reservations)'
/usr/bin/aws --endpoint-url "$AWS_ENDPOINT_URL_KMS" kms list-keys --query 'length(Keys)'
`)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_PAGER="}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "2\n1\n" {
		t.Errorf("awscli says %q, %v; want two instances and one key", out, err)
	}
}

// The verb's own mistakes are usage errors.
func TestCloudUsage(t *testing.T) {
	for _, args := range [][]string{{"--colour"}, {"extra"}} {
		if code := runCloud(t.Context(), args); code != exitUsage {
			t.Errorf("lab cloud %v: exit %d, want %d", args, code, exitUsage)
		}
	}
}
