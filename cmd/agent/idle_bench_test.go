// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/aws"
	emulator "github.com/volseal/volseal/test/lab/kms"
)

// What an agent may cost the database beside it, with 64 volumes mounted.
const (
	idleVolumes      = 64
	idleMaxMiB       = 40.0
	idleMaxCore      = 0.5 // percent
	idleMaxScrape    = 10 * time.Millisecond
	idleWindow       = time.Minute
	idleProbe        = time.Minute // the default: each volume is proved once in the window
	idleScrapePeriod = 15 * time.Second
)

// BenchmarkIdle is an agent at rest: its real wiring, KMS client, keyring and
// metrics; a kernel that says that everything is mounted; and one data key a
// volume, so that each probe is a request of its own. The emulated KMS is another
// process; the scraping client is counted in.
func BenchmarkIdle(b *testing.B) {
	linkedAsTheAgent(b)
	for b.Loop() {
		h := newIdleHost(b)
		h.awaitProofs(b)
		used := cpuTime(b)
		begin := time.Now()
		for time.Since(begin) < idleWindow {
			time.Sleep(idleScrapePeriod)
			h.scrape(b)
		}
		core := 100 * (cpuTime(b) - used).Seconds() / time.Since(begin).Seconds()
		rss := residentMiB(b)
		used = cpuTime(b)
		median, slowest := h.scrapes(b)
		each := (cpuTime(b) - used) / idleScrapes
		b.Logf("resident memory  %5.1f MiB     (target: at most %.0f MiB)", rss, idleMaxMiB)
		b.Logf("processor        %5.2f %%       (target: under %.1f %% of one core; probes every %s)", core, idleMaxCore, idleProbe)
		b.Logf("scrape, median   %5.1f ms      (target: under %s; slowest of %d %s, %.1f ms of processor time each)",
			millis(median), idleMaxScrape, idleScrapes, slowest.Round(time.Millisecond), millis(each))
		b.ReportMetric(rss, "MiB-resident")
		b.ReportMetric(core, "%-of-a-core")
		b.ReportMetric(millis(median), "ms-scrape")
		h.stop()
	}
}

// linkedAsTheAgent: a module that looks methods up by reflection, such as go-cmp or
// rapid, has the linker keep every method of the SDK. The test program then is of
// 72 MB instead of 28, and a quarter of what is resident has nothing to do with the
// agent. So no test of this package may use one.
func linkedAsTheAgent(b *testing.B) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(self)
	if err != nil {
		b.Fatal(err)
	}
	if info.Size() > 40<<20 {
		b.Fatalf("the test program is of %d MB: a test of this package imports what keeps the linker from its work", info.Size()/1e6)
	}
}

type idleHost struct {
	agent *agent
	url   string
	stop  func()
}

func newIdleHost(b *testing.B) *idleHost {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	a := &agent{log: slog.New(slog.DiscardHandler)}
	a.metrics = newMetrics(a)
	client, arn := idleKMS(b, a)
	cfg := &config.Config{KMS: config.KMS{Timeout: 5 * time.Second, ProofMaxAge: 10 * time.Second, ProbeInterval: idleProbe}}
	a.keyring = envelope.NewKeyring(client, a.keyringOptions(cfg))
	kernel := &idleKernel{headers: map[uint32]*volume.Header{}}
	names := kernel.volumes(b, a.keyring, arn, cfg)
	claims, err := volume.NewClaims(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	a.reconciler = volume.NewReconciler(volume.Ports{
		Cloud: idleCloud{}, Devices: kernel, Crypt: kernel, Mounts: idleMounts{}, Archive: idleArchive{kernel: kernel},
		Keyring: a.keyring, Claims: claims, Keys: volume.NewKeyBook(), Recorder: a.metrics, Log: a.log,
	})
	a.metrics.Configure(names)
	a.reconciler.Apply(cfg.Volumes, cfg.KMS.ProbeInterval)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{}, 2)
	go func() { a.reconciler.Run(ctx); done <- struct{}{} }()
	go func() { _ = a.metrics.Serve(ctx, listener, a.log); done <- struct{}{} }()
	return &idleHost{a, "http://" + listener.Addr().String() + "/metrics", func() {
		cancel()
		<-done
		<-done
		a.keyring.Flush()
	}}
}

// emulatorCommand is the name by which the test program is an emulated KMS.
const emulatorCommand = "kms-emulator"

// serveEmulator prints its address and the ARN of a key, and serves until its
// standard input ends, which it does with whoever started it.
func serveEmulator() {
	creds := aws.NewCredentials()
	creds.Add(aws.Credential{
		AccessKeyID: "ASIAHOST", SecretAccessKey: "secret", SessionToken: "token",
		Principal: aws.AssumedRole(aws.PlatformAccount, "volseal-host", "i-0123456789abcdef0"),
	})
	server := emulator.New(emulator.Options{Credentials: creds, Calls: aws.NewCallLog(), Faults: aws.NewFaults()})
	arn, err := server.CreateKey(aws.CustomerAccount, "us-east-1", "", "", true)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	listener := httptest.NewServer(server)
	defer listener.Close()
	fmt.Println(listener.URL, arn)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// idleKMS is the agent's client of an emulated KMS, and a key there.
func idleKMS(b *testing.B, a *agent) (client *kms.Client, arn string) {
	b.Helper()
	url := ""
	if _, err := fmt.Fscan(startEmulator(b), &url, &arn); err != nil {
		b.Fatal(err)
	}
	provider := sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
		return sdk.Credentials{AccessKeyID: "ASIAHOST", SecretAccessKey: "secret", SessionToken: "token"}, nil
	})
	sdkConfig := sdk.Config{Region: "us-east-1", BaseEndpoint: &url, Credentials: provider}
	return kms.New(kms.NewClient(sdkConfig), kms.Options{Observer: a.metrics.KMSRequest}), arn
}

// startEmulator returns what the other process prints. It ends with the benchmark.
func startEmulator(b *testing.B) io.Reader {
	b.Helper()
	self, err := os.Executable()
	name := filepath.Join(b.TempDir(), emulatorCommand)
	if err == nil {
		err = os.Symlink(self, name)
	}
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	return stdout
}

// idleKernel has every volume attached, open and mounted. Only what a pass over
// a mounted volume asks is there: anything else would not be idle, and panics.
type idleKernel struct {
	volume.Crypt
	headers map[uint32]*volume.Header
}

// volumes adds them to the configuration, each with a wrapped key of its own.
func (k *idleKernel) volumes(b *testing.B, ring *envelope.Keyring, arn string, cfg *config.Config) (names []string) {
	b.Helper()
	for i := range idleVolumes {
		name := fmt.Sprintf("volume-%d", i)
		ec, err := envelope.NewContext("db-"+name, nil)
		if err != nil {
			b.Fatal(err)
		}
		k.headers[uint32(i)] = idleHeader(b, ring, name, envelope.Ref{KeyARN: arn, Context: ec})
		cfg.Volumes = append(cfg.Volumes, volume.Spec{
			Name: name, Database: "db-" + name, VolumeID: fmt.Sprintf("vol-%017d", i), KeyARN: arn,
			Mountpoint: "/srv/" + name, Filesystem: "ext4", Context: ec, Attach: true,
		})
		names = append(names, name)
	}
	return names
}

// idleHeader is one that passes all that is asked of a header before its keyslot.
func idleHeader(b *testing.B, ring *envelope.Keyring, uuid string, ref envelope.Ref) *volume.Header {
	b.Helper()
	proof, wrapped, err := ring.Fresh(b.Context(), ref)
	if err != nil {
		b.Fatal(err)
	}
	defer proof.Release()
	token := envelope.Token{
		Keyslots: []string{"0"}, Version: 1, Generation: 1, KeyARN: ref.KeyARN, EncryptionContext: ref.Context,
		WrappedKey: wrapped, Salt: make([]byte, 32),
	}
	passphrase, mac, err := proof.Derive(token.Salt)
	if err != nil {
		b.Fatal(err)
	}
	defer passphrase.Destroy()
	defer mac.Destroy()
	meaning := []byte(`{}`)
	if err := token.Seal(mac, meaning); err != nil {
		b.Fatal(err)
	}
	return &volume.Header{UUID: uuid, Candidates: []volume.Candidate{{Token: token, Meaning: meaning}}}
}

func (k *idleKernel) Find(_ context.Context, volumeID string) (volume.Device, error) {
	n := number(volumeID)
	return volume.Device{Path: fmt.Sprintf("/dev/nvme%dn1", n), Major: 259, Minor: n, Bytes: 1 << 30}, nil
}

func (k *idleKernel) Mapping(_ context.Context, name string) (volume.Mapping, error) {
	n := number(name)
	if name != fmt.Sprintf("volseal-volume-%d", n) { // the pending name
		return volume.Mapping{}, nil
	}
	return volume.Mapping{Present: true, Major: 253, Minor: n, UUID: k.headers[n].UUID, Backing: []volume.Backing{{Major: 259, Minor: n}}}, nil
}

func (k *idleKernel) Freeze(_ context.Context, d volume.Device, _ string) (*volume.Header, error) {
	return k.headers[d.Minor], nil
}

func (k *idleKernel) Fingerprint(_ context.Context, d volume.Device) (volume.Fingerprint, error) {
	return volume.Fingerprint{byte(d.Minor)}, nil
}

func (k *idleKernel) Try(context.Context, *volume.Header, int, *envelope.Secret) error { return nil }

func (k *idleKernel) Cipher(context.Context, string) (string, error) { return "aes-xts-plain64", nil }

func (k *idleKernel) Discard(*volume.Header) {}

// idleArchive takes the one backup of each header before all is at rest.
type idleArchive struct {
	volume.Archive
	kernel *idleKernel
}

func (idleArchive) Save(_ context.Context, d volume.Device, path string) error {
	return os.WriteFile(path, fmt.Append(nil, d.Minor), 0o600)
}

func (a idleArchive) Judge(d volume.Device, _ string) (*volume.Header, error) {
	return a.kernel.headers[d.Minor], nil
}

func (idleArchive) Print(string) (volume.Fingerprint, error) { return volume.Fingerprint{}, nil }

// idleCloud has every volume attached here.
type idleCloud struct{ volume.Cloud }

func (idleCloud) Volume(_ context.Context, id string) (volume.CloudVolume, error) {
	return volume.CloudVolume{ID: id, State: "in-use", Encrypted: true, Attachment: "attached"}, nil
}

type idleMounts struct{ volume.Mounts }

func (idleMounts) Find(context.Context, volume.Mapping, string) (volume.MountFact, error) {
	return volume.MountFact{Mounted: true, Filesystem: "ext4"}, nil
}

func (idleMounts) Stopping(context.Context) (bool, error) { return false, nil }

func number(name string) uint32 {
	n, _ := strconv.ParseUint(regexp.MustCompile(`\d+`).FindString(name), 10, 32)
	return uint32(n)
}

// awaitProofs waits until every volume would survive a reboot.
func (h *idleHost) awaitProofs(b *testing.B) {
	b.Helper()
	limit := time.After(time.Minute)
	for {
		_, changed := h.agent.reconciler.Changes()
		s := h.agent.reconciler.Snapshot()
		if !slices.ContainsFunc(s.Volumes, func(v volume.Status) bool { return !v.WouldSurviveReboot }) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			b.Fatalf("not all are proved: %+v", s.Volumes[0])
		}
	}
}

func (h *idleHost) scrape(b *testing.B) time.Duration {
	b.Helper()
	begin := time.Now()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, h.url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip") // as Prometheus does; unpacking is its own cost
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 {
		b.Fatalf("scrape: %d bytes, %v", n, err)
	}
	return time.Since(begin)
}

const idleScrapes = 101

// scrapes are what one takes, and what the slowest does, after a first that connects.
func (h *idleHost) scrapes(b *testing.B) (median, slowest time.Duration) {
	b.Helper()
	h.scrape(b)
	all := make([]time.Duration, idleScrapes)
	for i := range all {
		all[i] = h.scrape(b)
	}
	slices.Sort(all)
	return all[idleScrapes/2], all[idleScrapes-1]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func residentMiB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		b.Fatal("no VmRSS")
	}
	kib, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
