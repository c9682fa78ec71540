// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/ec2"
	"github.com/volseal/volseal/test/lab/kms"
)

// Options of a world. Only Dir is required.
type Options struct {
	Dir         string        // state and raw images; created when missing
	Plugger     ec2.Plugger   // nil: volumes are plugged nowhere
	Machine     Machine       // nil: `labctl host` is refused
	IMDSBinary  string        // ec2-metadata-mock; empty: found, or built from the tools module
	WithoutIMDS bool          // no metadata service at all
	AttachLimit int           // volumes attached to an instance at once; 0: 28
	LatencyMin  time.Duration // of an asynchronous transition; both 0: 200 ms to 1 s
	LatencyMax  time.Duration
	Log         *slog.Logger // nil: nothing is logged
}

// World is a running emulated AWS. The exported parts are for tests that live
// in the same process; everybody else uses the listeners.
type World struct {
	KMS         *kms.Server
	EC2         *ec2.Server
	Calls       *aws.CallLog
	Credentials *aws.Credentials
	Session     aws.Credential // of the instance role, as IMDS hands it out

	opts    Options
	log     *slog.Logger
	faults  *aws.Faults
	faultMu sync.Mutex // a fault is one setting on the wire and in the service
	wires   map[string]*wire
	control string
	ctx     context.Context // ends with Close
	end     context.CancelFunc
	tasks   sync.WaitGroup // what outlives the request that asked for it
	closers []func() error // in order of starting
}

// Start assembles a world and serves it until Close; ctx bounds the start only.
func Start(ctx context.Context, opts Options) (*World, error) {
	w := &World{
		Calls:       aws.NewCallLog(),
		Credentials: aws.NewCredentials(),
		Session:     newCredential(),
		opts:        opts,
		log:         opts.Log,
		faults:      aws.NewFaults(),
		wires:       map[string]*wire{},
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.Credentials.Add(w.Session)
	w.ctx, w.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start world: %w", err), w.Close())
	}
	return w, nil
}

func (w *World) start(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(w.opts.Dir, "kms"), 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := w.startServices(); err != nil {
		return err
	}
	services := map[string]http.Handler{"kms": w.KMS, "ec2": w.EC2}
	if !w.opts.WithoutIMDS {
		handler, err := w.startIMDS(ctx)
		if err != nil {
			return err
		}
		services["imds"] = handler
	}
	for name, handler := range services {
		if err := w.serveBehindWire(name, handler); err != nil {
			return err
		}
	}
	var err error
	w.control, err = w.serve(w.routes())
	return err
}

func (w *World) startServices() (err error) {
	w.KMS, err = kms.Open(kms.Options{
		Dir: filepath.Join(w.opts.Dir, "kms"), Credentials: w.Credentials, Calls: w.Calls, Faults: w.faults, EC2Region: Region,
	})
	if err != nil {
		return err
	}
	key, err := w.defaultKey()
	if err != nil {
		return err
	}
	w.EC2, err = ec2.New(ec2.Options{
		Dir: filepath.Join(w.opts.Dir, "ec2"), KMS: w.KMS, Credentials: w.Credentials, Calls: w.Calls, Faults: w.faults,
		Plugger: w.opts.Plugger, Latency: ec2.Latency{Min: w.opts.LatencyMin, Max: w.opts.LatencyMax}, AttachLimit: w.opts.AttachLimit,
		DefaultKey: key, Account: PlatformAccount, Region: Region, Log: w.log,
	})
	if err == nil {
		w.closers = append(w.closers, w.EC2.Close)
	}
	return err
}

func (w *World) startIMDS(ctx context.Context) (http.Handler, error) {
	binary := w.opts.IMDSBinary
	if binary == "" {
		var err error
		if binary, err = findIMDS(ctx); err != nil {
			return nil, err
		}
	}
	m, err := startIMDS(ctx, binary, w.opts.Dir, w.Session, w.faults)
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, m.close)
	return m.handler, nil
}

// defaultKey is the key of the platform's account that encrypts a volume for
// which nobody names one: made once, and written down.
func (w *World) defaultKey() (string, error) {
	path := filepath.Join(w.opts.Dir, "world.json")
	var known struct {
		DefaultKey string `json:"default_key"`
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &known)
		return known.DefaultKey, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read default key: %w", err)
	}
	if known.DefaultKey, err = w.KMS.CreateKey(PlatformAccount, Region, "", "", false); err != nil {
		return "", fmt.Errorf("create default key: %w", err)
	}
	if raw, err = json.Marshal(known); err != nil {
		return "", fmt.Errorf("encode default key: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return "", fmt.Errorf("write default key: %w", err)
	}
	return known.DefaultKey, nil
}

func (w *World) serveBehindWire(name string, handler http.Handler) error {
	addr, err := w.serve(handler)
	if err != nil {
		return err
	}
	front, err := newWire(name, addr)
	if err != nil {
		return err
	}
	w.wires[name] = front
	w.closers = append(w.closers, front.close)
	return nil
}

// serve answers on a loopback port of its own until Close.
func (w *World) serve(handler http.Handler) (addr string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			w.log.Error("a listener of the world ended", "error", err)
		}
	}()
	w.closers = append(w.closers, server.Close)
	return listener.Addr().String(), nil
}

// Addr is the loopback host:port of "kms", "ec2", "imds" (behind the wire
// faults) or "control"; empty for any other name.
func (w *World) Addr(service string) string {
	if service == "control" {
		return w.control
	}
	if front, ok := w.wires[service]; ok {
		return front.addr()
	}
	return ""
}

// Disks are the volumes to boot the machine with, in order of attachment.
func (w *World) Disks() []ec2.Disk { return w.EC2.Disks() }

// Env are the settings, as NAME=value, by which AWS clients and labctl on this
// host find the world and act as the instance role.
func (w *World) Env() []string {
	env := []string{
		"AWS_ENDPOINT_URL_KMS=http://" + w.Addr("kms"),
		"AWS_ENDPOINT_URL_EC2=http://" + w.Addr("ec2"),
		"AWS_REGION=" + Region,
		"AWS_DEFAULT_REGION=" + Region, // all that boto and awscli 1 look at
		"AWS_ACCESS_KEY_ID=" + w.Session.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + w.Session.SecretAccessKey,
		"AWS_SESSION_TOKEN=" + w.Session.SessionToken,
		"LABCTL_URL=http://" + w.Addr("control"),
	}
	if addr := w.Addr("imds"); addr != "" {
		env = append(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://"+addr+"/") // awscli 2.9 appends to it blindly
	}
	return env
}

// Close ends everything that Start began, last first. Dir stays.
func (w *World) Close() error {
	w.end()
	var errs []error
	for _, end := range slices.Backward(w.closers) {
		errs = append(errs, end())
	}
	w.closers = nil
	w.tasks.Wait()
	return errors.Join(errs...)
}
