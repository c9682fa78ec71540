// SPDX-License-Identifier: Apache-2.0

package ec2_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/volseal/volseal/test/lab/ec2"
)

// Debian's awscli is a client that nobody here wrote.
func TestAWSCLI(t *testing.T) {
	cli := "/usr/bin/aws" // not whatever else PATH may call aws
	if _, err := os.Stat(cli); err != nil {
		t.Skip("awscli is not installed: apt-get install awscli")
	}
	t.Parallel() // it starts Python again and again
	l := newLab(t)
	aws := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), cli, append([]string{"--endpoint-url", l.url, "--output", "text", "ec2"}, args...)...)
		cmd.Env = []string{
			"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
			"AWS_ACCESS_KEY_ID=ASIALAB", "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=token", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1",
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "failed: " + string(out)
		}
		return strings.TrimSpace(string(out))
	}
	id := aws("create-volume", "--availability-zone", zone, "--size", "1", "--encrypted", "--kms-key-id", goodKey,
		"--tag-specifications", "ResourceType=volume,Tags=[{Key=db,Value=x}]", "--query", "VolumeId")
	if out := aws("wait", "volume-available", "--volume-ids", id); out != "" {
		t.Fatalf("wait for %s: %s", id, out)
	}
	if out := aws("describe-volumes", "--filters", "Name=tag:db,Values=x", "--query", "Volumes[].[VolumeId,State,length(Attachments)]"); out != id+"\tavailable\t0" {
		t.Errorf("describe-volumes: %q", out)
	}
	if out := aws("attach-volume", "--volume-id", id, "--instance-id", ec2.OurInstance, "--device", "/dev/sdf", "--query", "State"); out != "attaching" {
		t.Errorf("attach-volume: %q", out)
	}
	l.rest(id, "attached")
	if out := aws("delete-volume", "--volume-id", id); !strings.Contains(out, "(VolumeInUse)") {
		t.Errorf("delete-volume of an attached one: %q", out)
	}
}
