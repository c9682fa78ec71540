// SPDX-License-Identifier: Apache-2.0

package world_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/volseal/volseal/test/lab/world"
)

const nothing = "off"

func start(t *testing.T, adjust ...func(*world.Options)) *world.World {
	t.Helper()
	opts := world.Options{Dir: t.TempDir(), WithoutIMDS: true, LatencyMin: time.Millisecond, LatencyMax: 3 * time.Millisecond}
	for _, a := range adjust {
		a(&opts)
	}
	w, err := world.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// withIMDS skips where the mock is neither there nor can be built.
func withIMDS(o *world.Options) { o.WithoutIMDS = false }

// session loads the SDK's settings from the environment that `lab cloud` prints,
// with or without its credentials.
func session(t *testing.T, w *world.World, static bool) awssdk.Config {
	t.Helper()
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	for _, setting := range w.Env() {
		name, value, _ := strings.Cut(setting, "=")
		if !static && (strings.HasPrefix(name, "AWS_ACCESS") || strings.HasPrefix(name, "AWS_SECRET") || strings.HasPrefix(name, "AWS_SESSION")) {
			value = ""
		}
		t.Setenv(name, value)
	}
	once := func() awssdk.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.RateLimiter = 1, ratelimit.None })
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRetryer(once))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The role that IMDS hands out opens both services: what the agent does first.
func TestInstanceRoleThroughIMDS(t *testing.T) {
	w := start(t, withIMDS)
	cfg := session(t, w, false)
	meta := imds.NewFromConfig(cfg)
	doc, err := meta.GetInstanceIdentityDocument(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if doc.InstanceID != world.Instance || doc.Region != world.Region || doc.AvailabilityZone != world.Zone || doc.AccountID != world.PlatformAccount {
		t.Errorf("identity document: %+v", doc)
	}
	out, err := ec2.NewFromConfig(cfg).DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{doc.InstanceID}})
	if err != nil || len(out.Reservations) != 1 {
		t.Errorf("EC2 as the instance role: %v, %v", out, err)
	}
	arn, err := w.KMS.CreateKey(world.CustomerAccount, world.Region, "", "", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kms.NewFromConfig(cfg).GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256"}); err != nil {
		t.Errorf("KMS as the instance role, under a customer's shared key: %v", err)
	}
	last := w.Calls.Since(0)
	if p := last[len(last)-1].Principal; p != "arn:aws:sts::916150859591:assumed-role/volseal-host/"+world.Instance {
		t.Errorf("KMS saw %s", p)
	}
}

// IMDSv2 only, and many at once: the mock alone would mix their answers up.
func TestIMDS(t *testing.T) {
	w := start(t, withIMDS)
	answer, err := http.Get("http://" + w.Addr("imds") + "/latest/meta-data/instance-id")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %s, want 401", answer.Status)
	}
	meta := imds.NewFromConfig(session(t, w, true))
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if region, err := meta.GetRegion(t.Context(), nil); err != nil || region.Region != world.Region {
				t.Errorf("region: %v, %v", region, err)
			}
		})
		all.Go(func() {
			doc, err := meta.GetIAMInfo(t.Context(), nil)
			if err != nil || !strings.HasSuffix(doc.InstanceProfileArn, world.Role) {
				t.Errorf("role: %v, %v", doc, err)
			}
		})
	}
	all.Wait()
	if err := w.SetFault(t.Context(), "imds", "error=404"); err != nil {
		t.Fatal(err)
	}
	if _, err := imds.NewFromConfig(session(t, w, true)).GetRegion(t.Context(), nil); err == nil {
		t.Error("a fault of IMDS did not strike")
	}
}

// Each fault of the wire is what its name says, strikes connections that are
// open already, and leaves nothing behind when it is off.
func TestWireFaults(t *testing.T) {
	w := start(t)
	client := ec2.NewFromConfig(session(t, w, true))
	ask := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
		return err
	}
	fault := func(spec string) {
		t.Helper()
		if err := w.SetFault(t.Context(), "ec2", spec); err != nil {
			t.Fatal(err)
		}
	}
	const long = 20 * time.Second
	for range 2 { // with and without a connection kept from before
		fault("blackhole")
		if err := ask(200 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in a black hole: %v, want no answer at all", err)
		}
		fault(nothing)
		if err := ask(long); err != nil {
			t.Errorf("after the black hole: %v", err)
		}
	}
	fault("reset")
	var api smithy.APIError
	for range 2 {
		if err := ask(long); err == nil || errors.As(err, &api) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("on a resetting wire: %v, want a broken connection", err)
		}
	}
	if err := touch(w.Addr("ec2")); !errors.Is(err, syscall.ECONNRESET) { // the SDK may see its own closing first
		t.Errorf("on a resetting wire: %v, want a reset", err)
	}
	fault("latency=150ms")
	begin := time.Now()
	if err := ask(long); err != nil || time.Since(begin) < 150*time.Millisecond {
		t.Errorf("on a slow wire: %v after %s", err, time.Since(begin))
	}
	fault(nothing)
	if err := ask(long); err != nil {
		t.Errorf("after all: %v", err)
	}
}

// touch sends a byte and reads what comes.
func touch(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// What a slow wire held back must not arrive when another fault takes its place: an
// outage in a scenario would have a hole through which a volume opens.
func TestSlowAnswersAreLostInTheNextFault(t *testing.T) {
	w := start(t)
	client := kms.NewFromConfig(session(t, w, true), func(o *kms.Options) { o.RetryMaxAttempts = 1 })
	for _, next := range []string{"throttle", "reset", "blackhole", "latency=1h"} {
		if err := w.SetFault(t.Context(), "kms", "latency=1h"); err != nil {
			t.Fatal(err)
		}
		mark := w.Calls.Mark()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		answered := make(chan error, 1)
		go func() {
			_, err := client.ListKeys(ctx, &kms.ListKeysInput{})
			answered <- err
		}()
		for len(w.Calls.Since(mark)) == 0 && ctx.Err() == nil { // until KMS has answered
			time.Sleep(time.Millisecond)
		}
		if err := w.SetFault(t.Context(), "kms", next); err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err == nil || ctx.Err() != nil {
			t.Errorf("%s after latency: %v, %v", next, err, ctx.Err())
		}
		cancel()
	}
}

// A fault replaces the one before, on the wire or in the service alike.
func TestServiceFaults(t *testing.T) {
	w := start(t)
	client := kms.NewFromConfig(session(t, w, true))
	code := func() string {
		_, err := client.ListKeys(t.Context(), &kms.ListKeysInput{})
		var api smithy.APIError
		if errors.As(err, &api) {
			return api.ErrorCode()
		}
		if err != nil {
			return err.Error()
		}
		return ""
	}
	for _, step := range []struct{ fault, want string }{
		{"throttle", "ThrottlingException"},
		{"error=KMSInternalException", "KMSInternalException"},
		{"latency=1ms", ""},
		{nothing, ""},
		{"error=DisabledException:1", "DisabledException"},
		{"", ""}, // the one is spent
		{"throttle", "ThrottlingException"},
		{nothing, ""},
	} {
		if step.fault != "" {
			if err := w.SetFault(t.Context(), "kms", step.fault); err != nil {
				t.Fatal(err)
			}
		}
		if got := code(); got != step.want {
			t.Errorf("with %q: %q, want %q", step.fault, got, step.want)
		}
	}
	for _, wrong := range []string{"", "on", "latency", "latency=-1s", "latency=soon", "blackhole=1", "error="} {
		if err := w.SetFault(t.Context(), "kms", wrong); err == nil {
			t.Errorf("fault %q was accepted", wrong)
		}
	}
	if err := w.SetFault(t.Context(), "s3", "off"); err == nil {
		t.Error("a service that is not there can be broken")
	}
}

// A world that starts where another ended knows its keys and volumes.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	at := func(o *world.Options) { o.Dir = dir }
	w := start(t, at)
	made, err := ec2.NewFromConfig(session(t, w, true)).CreateVolume(t.Context(), &ec2.CreateVolumeInput{
		AvailabilityZone: awssdk.String(world.Zone), Size: awssdk.Int32(1), Encrypted: awssdk.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = start(t, at)
	v, err := w.EC2.WaitVolume(t.Context(), *made.VolumeId)
	if err != nil || v.State != "available" || v.KeyARN != *made.KmsKeyId {
		t.Errorf("after the restart: %+v, %v", v, err)
	}
}

// A world that ends leaves no child, and neither does one that cannot start.
func TestNothingIsLeft(t *testing.T) {
	w := start(t, withIMDS)
	if n := len(children(t)); n != 1 {
		t.Errorf("%d children while a world is up, want the metadata service", n)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := world.Start(t.Context(), world.Options{Dir: t.TempDir(), IMDSBinary: "/bin/false"})
	if err == nil || !strings.Contains(err.Error(), "metadata service") {
		t.Errorf("start with a broken metadata service: %v", err)
	}
	if left := children(t); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// children are the process ids whose parent is this process.
func children(t *testing.T) []string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, strings.Fields(string(raw))...)
	}
	return all
}
