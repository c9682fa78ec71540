// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/metrics"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/device"
	"github.com/volseal/volseal/internal/volume/ebs"
	"github.com/volseal/volseal/internal/volume/luks"
	"github.com/volseal/volseal/internal/volume/mount"
)

// Where the agent keeps things. systemd makes the directories; see the unit.
const (
	configDir = "/etc/volseal"
	stateDir  = "/var/lib/volseal"
	frozenDir = "/run/volseal/headers"
	// readers may look at status; operators, whose group is configured, may act.
	readerGroup = "volseal"
)

// agent is the daemon: everything wired, and what operators may ask of it as a
// whole. It implements control.Agent.
type agent struct {
	dir        string
	log        *slog.Logger
	metrics    *metrics.Metrics
	connector  *connector
	keyring    *envelope.Keyring
	devices    *device.Finder
	mounts     *mount.Manager
	reconciler *volume.Reconciler

	reloading sync.Mutex
	examining sync.Mutex // held by a check of a key or of the host: one at a time
	policy    policy
}

// runAgent is `volseal agent`. It returns when it is told to stop; every volume
// then stays as it is.
func runAgent(ctx context.Context, log *slog.Logger, dir string) error {
	if err := harden(); err != nil {
		return err
	}
	// First: whoever types this has nothing to mend in the configuration.
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) != 1 {
		return &stepError{title: "Start agent", err: noSocketPassed(err)}
	}
	cfg, err := config.Load(dir)
	if err != nil {
		return err
	}
	a, err := newAgent(dir, log, cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	return a.run(ctx, cfg, listeners[0])
}

func noSocketPassed(err error) error {
	return &fault.Error{
		Class: fault.Unknown, Reason: "no-socket", Err: err,
		Cause: "No control socket was passed: it is systemd that starts the agent.",
		Hint:  "Run: systemctl start volseal.service",
	}
}

func newAgent(dir string, log *slog.Logger, cfg *config.Config) (*agent, error) {
	a := &agent{dir: dir, log: log}
	a.metrics = newMetrics(a)
	a.connector = &connector{cfg: *cfg, metrics: a.metrics, worked: func() []string { return a.reconciler.KeysThatWorked() }}
	a.keyring = envelope.NewKeyring(a.connector, a.keyringOptions(cfg))
	a.devices = device.New(device.Options{Models: cfg.NVMeModels})
	a.mounts = mount.New(mount.Options{})
	claims, err := volume.NewClaims(stateDir)
	if err != nil {
		return nil, err
	}
	crypt := luks.New(luks.Options{Dir: frozenDir})
	if err := crypt.Sweep(); err != nil {
		return nil, err
	}
	a.reconciler = volume.NewReconciler(volume.Ports{
		Cloud: a.connector, Maker: a.connector, Devices: a.devices, Crypt: crypt, Formatter: crypt, Archive: crypt, Mounts: a.mounts,
		Reencryptor: crypt, Jobs: a.mounts,
		Keyring: a.keyring, Claims: claims, Keys: volume.NewKeyBook(), Recorder: a.metrics, Log: log,
	})
	a.use(cfg)
	return a, nil
}

func newMetrics(a *agent) *metrics.Metrics {
	b := buildInfo()
	return metrics.New(metrics.Options{
		Version: b.Version, Revision: b.Revision,
		Snapshot:        func() volume.Snapshot { return a.reconciler.Snapshot() },
		CacheEntries:    func() int { return a.keyring.Stats() },
		HeaderReasons:   slices.Concat(luks.Reasons(), envelope.Reasons(), volume.HeaderReasons()),
		Evictions:       envelope.Evictions(),
		KMSOperations:   kms.Operations(),
		EC2Operations:   ebs.Operations(),
		OperatorVerbs:   control.Verbs(),
		OperatorResults: control.Results(),
	})
}

func (a *agent) keyringOptions(cfg *config.Config) envelope.Options {
	return envelope.Options{
		ProofMaxAge: cfg.KMS.ProofMaxAge, TTL: cfg.Cache.TTL,
		MaxVolumesPerDataKey: cfg.Cache.MaxVolumesPerDataKey, Observer: a.metrics,
	}
}

// use takes a sound configuration into use.
func (a *agent) use(cfg *config.Config) {
	if err := a.policy.set(readerGroup, cfg.OperatorGroup); err != nil {
		a.log.Error("some operators will be refused", "error", err)
	}
	names := make([]string, len(cfg.Volumes))
	for i, v := range cfg.Volumes {
		names[i] = v.Name
	}
	a.metrics.Configure(names)
	a.metrics.Reloaded(true)
	a.devices.Accept(cfg.NVMeModels)
	a.connector.configure(*cfg)
	a.keyring.Configure(a.keyringOptions(cfg))
	a.reconciler.Apply(cfg.Volumes, cfg.KMS.ProbeInterval)
	a.keyring.Retain(a.reconciler.Refs()) // the keys of what is no longer configured are forgotten
}

// run serves until ctx ends.
func (a *agent) run(ctx context.Context, cfg *config.Config, socket net.Listener) error {
	defer a.keyring.Flush()
	if err := a.mounts.Sync(ctx, cfg.Volumes); err != nil {
		a.log.Error("mount units are not up to date", "error", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { a.reconciler.Run(ctx) })
	socketFailed := a.serveOperators(ctx, &wg, socket)
	for what, serve := range a.services(cfg) {
		wg.Go(func() { a.keepServing(ctx, what, serve) })
	}
	wg.Go(func() { keepInformed(ctx, a.reconciler) })
	wg.Go(func() { keepWatchdog(ctx, a.Healthy) })
	b := buildInfo()
	a.log.Info("agent started", "version", b.Version, "volumes", len(cfg.Volumes))
	notify(daemon.SdNotifyReady)
	wg.Go(func() { a.reloadOnHangup(ctx) })
	select {
	case <-ctx.Done():
	case err := <-socketFailed:
		return err
	}
	notify(daemon.SdNotifyStopping)
	a.log.Info("agent stopping; volumes stay as they are")
	return nil
}

// serveOperators serves the socket. It was opened by systemd, and only a
// restart brings another: its failure ends the agent.
func (a *agent) serveOperators(ctx context.Context, wg *sync.WaitGroup, socket net.Listener) <-chan error {
	server := control.NewServer(control.Options{
		Agent: a, Permit: a.policy.permit, Log: a.log, Observe: a.metrics.OperatorRequest,
	})
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := server.Serve(ctx, socket); err != nil && ctx.Err() == nil {
			failed <- fmt.Errorf("serve operators: %w", err)
		}
	})
	return failed
}

// services run beside the reconciler. None of them is worth a database: when
// one fails it is tried again, and the agent works on.
func (a *agent) services(cfg *config.Config) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"metrics":       func(ctx context.Context) error { return a.serveMetrics(ctx, cfg.MetricsListen) },
		"device events": func(ctx context.Context) error { return device.Watch(ctx, a.reconciler.Wake) },
		"mount events":  func(ctx context.Context) error { return mount.Watch(ctx, a.reconciler.Wake) },
	}
}

// serviceRetry is the pause before a failed service is tried again.
const serviceRetry = 10 * time.Second

func (a *agent) keepServing(ctx context.Context, what string, serve func(context.Context) error) {
	for {
		err := serve(ctx)
		if ctx.Err() != nil {
			return
		}
		a.log.Error("service failed, trying again", "service", what, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(serviceRetry):
		}
	}
}

func (a *agent) serveMetrics(ctx context.Context, address string) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	return a.metrics.Serve(ctx, ln, a.log)
}

// reloadOnHangup reloads on each SIGHUP until ctx ends.
func (a *agent) reloadOnHangup(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			_ = a.Reload(ctx) // it has logged what was wrong
		}
	}
}
