// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
)

// imds is the instance metadata service: AWS's own mock of it, a child process,
// behind a handler of ours that injects faults.
type imds struct {
	handler http.Handler
	kill    context.CancelFunc
	exited  <-chan struct{}
}

// startIMDS runs the mock with our instance's facts and waits until it answers.
func startIMDS(ctx context.Context, binary, dir string, cred aws.Credential, faults *aws.Faults) (*imds, error) {
	var last error
	for range 3 { // another process may take the port that was free a moment ago
		m, err := tryIMDS(ctx, binary, dir, cred, faults)
		if err == nil {
			return m, nil
		}
		last = err
	}
	return nil, last
}

func tryIMDS(ctx context.Context, binary, dir string, cred aws.Credential, faults *aws.Faults) (*imds, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "imds.json")
	if err := writeIMDSConfig(config, port, cred); err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	exited, err := spawn(life, binary, filepath.Join(dir, "imds.log"), "--config-file", config)
	if err != nil {
		kill()
		return nil, err
	}
	m := &imds{handler: imdsHandler(addr, faults), kill: kill, exited: exited}
	if err := awaitListener(ctx, addr, exited); err != nil {
		return nil, errors.Join(fmt.Errorf("start metadata service (see %s/imds.log): %w", dir, err), m.close())
	}
	return m, nil
}

func (m *imds) close() error {
	m.kill()
	<-m.exited
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// spawn runs a child that dies with us. The kernel ties the parent-death signal
// to the thread that forks: that thread must live as long as the child.
func spawn(ctx context.Context, binary, log string, args ...string) (<-chan struct{}, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = []string{"HOME=" + filepath.Dir(log)} // no settings of the user's
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(exited)
		defer func() { _ = out.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, as a rule; why it ended otherwise is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	return exited, nil
}

func awaitListener(ctx context.Context, addr string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond): // it says nothing when it begins to listen
		}
	}
}

// imdsStatus is the HTTP status of an injected fault: IMDS has no other codes, so
// error=404 means that.
func imdsStatus(fault *aws.Error) int {
	if fault.Code == "ThrottlingException" {
		return http.StatusTooManyRequests
	}
	if n, err := strconv.Atoi(fault.Code); err == nil && http.StatusText(n) != "" {
		return n
	}
	return fault.Status
}

// imdsHandler passes one request at a time, for the mock keeps tokens and even
// the answer in progress in variables without a lock.
func imdsHandler(addr string, faults *aws.Faults) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	var one sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := faults.Next("imds"); fault != nil {
			http.Error(w, fault.Message, imdsStatus(fault))
			return
		}
		one.Lock()
		defer one.Unlock()
		proxy.ServeHTTP(w, r)
	})
}

// writeIMDSConfig overrides the facts of the mock's imaginary instance.
func writeIMDSConfig(path string, port int, cred aws.Credential) error {
	const when = "2025-01-01T00:00:00Z"
	config := map[string]any{
		"imdsv2": true,
		"server": map[string]any{"hostname": "127.0.0.1", "port": strconv.Itoa(port)}, // it binds every interface by default
		"metadata": map[string]any{
			"paths": map[string]any{"iam-security-credentials": "/latest/meta-data/iam/security-credentials/" + Role},
			"values": map[string]any{
				"instance-id":                   Instance,
				"instance-type":                 "m5.large",
				"placement-region":              Region,
				"placement-availability-zone":   Zone,
				"iam-security-credentials-role": Role,
				"iam-info": map[string]any{
					"Code": "Success", "LastUpdated": when,
					"InstanceProfileArn": "arn:aws:iam::" + PlatformAccount + ":instance-profile/" + Role,
				},
				"iam-security-credentials": map[string]any{
					"Code": "Success", "LastUpdated": when, "Type": "AWS-HMAC",
					"AccessKeyId": cred.AccessKeyID, "SecretAccessKey": cred.SecretAccessKey, "Token": cred.SessionToken,
					"Expiration": "2099-01-01T00:00:00Z",
				},
			},
		},
		"dynamic": map[string]any{"values": map[string]any{"instance-identity-document": map[string]any{
			"accountId": PlatformAccount, "instanceId": Instance, "region": Region, "availabilityZone": Zone,
			"instanceType": "m5.large", "architecture": "x86_64", "version": "2017-09-30", "privateIp": "169.254.169.15",
			"imageId": "ami-0123456789abcdef0", "pendingTime": when,
		}}},
	}
	raw, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	return nil
}
