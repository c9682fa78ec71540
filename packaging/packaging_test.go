// SPDX-License-Identifier: Apache-2.0

// Package packaging holds what is installed besides the binary. There is no
// code here, only tests of those files with the tools that will read them.
package packaging

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/keypolicy"
	"github.com/volseal/volseal/internal/volume"
)

// TestUnits protects against a directive that systemd would ignore.
func TestUnits(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	dir := t.TempDir()
	for _, name := range []string{"volseal.service", "volseal.socket"} {
		// The binary is not installed where the tests run.
		unit := strings.ReplaceAll(read(t, "systemd/"+name), "/usr/bin/volseal", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := run(t, analyze, "verify", "--man=no", "--generators=no", filepath.Join(dir, "volseal.service"), filepath.Join(dir, "volseal.socket"))
	if err != nil || strings.Contains(out, dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestSandbox protects the sandbox: the unit's exposure, on systemd's scale of
// 0 to 10, does not grow unnoticed.
func TestSandbox(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	if out, err := run(t, analyze, "security", "--offline=yes", "--threshold=26", "systemd/volseal.service"); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// TestExamples protects whoever starts from the examples: they are valid, and
// they name every key there is.
func TestExamples(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "volumes.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := ""
	for from, to := range map[string]string{"examples/volseal.yaml": "volseal.yaml", "examples/orders.yaml": "volumes.d/orders.yaml"} {
		text := read(t, from)
		all += text
		if err := os.WriteFile(filepath.Join(dir, to), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(dir)
	if err != nil || len(cfg.Volumes) != 1 {
		t.Fatalf("examples: %v", err)
	}
	manual := read(t, "man/volseal.yaml.5")
	for _, key := range keys(t) {
		if !regexp.MustCompile(`(?m)^#? *` + key + `:`).MatchString(all) {
			t.Errorf("no example of %s", key)
		}
		if !strings.Contains(manual, " Ic "+key+"\n") {
			t.Errorf("no mention of %s in volseal.yaml(5)", key)
		}
	}
}

// keys are those that the hint for an unknown one lists, in both kinds of file.
func keys(t *testing.T) (all []string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "volumes.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"volseal.yaml", "volumes.d/a.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("qqqqqqqqqqqqqqqqqqqq: 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := config.Load(dir)
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	for _, p := range problems {
		if known, ok := strings.CutPrefix(p.Hint, "known keys here: "); ok {
			all = append(all, strings.Split(known, ", ")...)
		}
	}
	if len(all) < 20 {
		t.Fatalf("keys: %q", all)
	}
	return all
}

// TestScripts protects removal and upgrade: what a maintainer script gets wrong
// happens to every host at once.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("scripts/*.sh")
	if err != nil || len(scripts) != 3 {
		t.Fatalf("scripts: %v %v", scripts, err)
	}
	for _, script := range scripts {
		text := read(t, script)
		if forbidden := regexp.MustCompile(`\b(umount|rm|cryptsetup|dmsetup|wipefs|userdel|groupdel)\b`).FindString(text); forbidden != "" {
			t.Errorf("%s uses %s: nothing of a volume is touched", script, forbidden)
		}
	}
	shellcheck := need(t, "shellcheck")
	if out, err := run(t, shellcheck, scripts...); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
	if out, err := run(t, "bash", "-n", "completions/volseal.bash"); err != nil {
		t.Errorf("completion for bash: %v\n%s", err, out)
	}
}

// TestPolicies protects against a policy that IAM would not take, or that asks
// for more than the platform's document promises to customers.
func TestPolicies(t *testing.T) {
	type statement struct {
		Sid, Effect      string
		Action, Resource any
		Principal        map[string]string
		Condition        map[string]map[string]string
	}
	var role struct {
		Version   string
		Statement []statement
	}
	decode(t, "iam/instance-role-policy.json", &role)
	for _, s := range role.Statement {
		for _, action := range list(s.Action) {
			if strings.Contains(action, "*") {
				t.Errorf("%s: %s is not one action", s.Sid, action)
			}
			if strings.HasPrefix(action, "kms:") && action != "kms:DescribeKey" && s.Condition == nil {
				t.Errorf("%s: %s without a condition", s.Sid, action)
			}
		}
	}
	var key []statement
	decode(t, "iam/key-policy-statements.json", &key)
	if len(key) != 2 || key[1].Condition["Bool"]["kms:GrantIsForAWSResource"] != "true" {
		t.Errorf("key policy: %+v", key)
	}
	for _, s := range key {
		if s.Principal["AWS"] != "arn:aws:iam::916150859591:root" || s.Effect != "Allow" {
			t.Errorf("%s: %+v", s.Sid, s)
		}
	}
}

// TestKeyPolicyStatements protects the customer from two truths: what the
// package ships for the documented account is what the verb prints.
func TestKeyPolicyStatements(t *testing.T) {
	want, err := json.MarshalIndent(keypolicy.Statements(keypolicy.Account("aws", "916150859591")), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, "iam/key-policy-statements.json"); got != string(want)+"\n" {
		t.Error("iam/key-policy-statements.json is not the output of: volseal key policy --principal 916150859591")
	}
}

// TestAlerts protects whoever is woken: each alert says how bad it is, what is
// wrong, what to do, and where to read on, and tests see it fire and keep silent;
// and each class and each phase has one.
func TestAlerts(t *testing.T) {
	type rule struct {
		Alert, Expr, For    string
		Labels, Annotations map[string]string
	}
	var rules struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/volseal.rules.yml")), &rules); err != nil || len(rules.Groups) != 1 {
		t.Fatalf("rules: %v", err)
	}
	tests := read(t, "prometheus/tests/volseal_test.yml")
	for _, r := range rules.Groups[0].Rules {
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: no summary or description", r.Alert)
		}
		if !strings.HasSuffix(r.Annotations["runbook_url"], "/docs/runbook.md#"+strings.ToLower(r.Alert)) {
			t.Errorf("%s: runbook_url %q", r.Alert, r.Annotations["runbook_url"])
		}
		if !strings.Contains(tests, "alertname: "+r.Alert+"\n") {
			t.Errorf("%s: no test sees it fire", r.Alert)
		}
		if !regexp.MustCompile(`alertname: ` + r.Alert + `, eval_time: \w+, exp_alerts: \[\]`).MatchString(tests) {
			t.Errorf("%s: no test sees it keep silent", r.Alert)
		}
	}
	for what, alert := range alertsOf() {
		if !slices.ContainsFunc(rules.Groups[0].Rules, func(r rule) bool { return r.Alert == alert }) {
			t.Errorf("%s: there is no %s", what, alert)
		}
	}
	for _, c := range fault.Classes() {
		if alertsOf()[string(c)] == "" {
			t.Errorf("class %s has no alert", c)
		}
	}
	for _, p := range volume.Phases() {
		if alertsOf()[string(p)] == "" {
			t.Errorf("phase %s has no alert", p)
		}
	}
}

// alertsOf says which alert tells of each class and of each phase that it is
// not well to stay in.
func alertsOf() map[string]string {
	const notMounted = "VolsealVolumeNotMounted"
	return map[string]string{
		string(fault.Revoked):       "VolsealKeyRevoked",
		string(fault.Unreachable):   "VolsealKMSUnreachable",
		string(fault.Throttled):     "VolsealThrottled",
		string(fault.Integrity):     "VolsealVolumeQuarantined",
		string(fault.Misconfigured): "VolsealMisconfigured",
		string(fault.Identity):      "VolsealIdentityLost",
		string(fault.Unknown):       "VolsealUnknownFailure",
		string(volume.Detached):     notMounted,
		string(volume.Attached):     notMounted,
		string(volume.Sealed):       notMounted,
		string(volume.Unlocked):     notMounted,
		string(volume.Mounted):      "VolsealWouldNotSurviveReboot",
		string(volume.Quarantined):  "VolsealVolumeQuarantined",
	}
}

// TestManual protects the manual pages from markup that does not render.
func TestManual(t *testing.T) {
	mandoc := need(t, "mandoc")
	pages, err := filepath.Glob("man/*.[58]")
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages: %v %v", pages, err)
	}
	// Pages refer to one another, and are not installed here; escapes make lines longer.
	known := regexp.MustCompile(`referenced manual not found|outdated mandoc.db|longer than 80 bytes`)
	for _, page := range pages { // of several, the messages run into one another
		out, _ := run(t, mandoc, "-Tlint", "-Wstyle", page)
		for line := range strings.Lines(out) {
			if !known.MatchString(line) {
				t.Error(line)
			}
		}
	}
}

// TestEverythingIsPackaged protects from a page or a script that is made and
// never shipped.
func TestEverythingIsPackaged(t *testing.T) {
	var shipped struct{ Contents []struct{ Src string } }
	if err := yaml.Unmarshal([]byte(read(t, "nfpm.yaml")), &shipped); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"man/*.[58]", "completions/*", "examples/*", "iam/*", "../docs/*.md", "../docs/schema/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			if !slices.ContainsFunc(shipped.Contents, func(c struct{ Src string }) bool {
				ok, err := filepath.Match(c.Src, filepath.Join("packaging", file))
				return ok && err == nil
			}) {
				t.Errorf("%s is in no package", file)
			}
		}
	}
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(read(t, file))))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func list(v any) []string {
	switch x := v.(type) {
	case string:
		return []string{x}
	case []any:
		var out []string
		for _, e := range x {
			s, _ := e.(string)
			out = append(out, s)
		}
		return out
	}
	return nil
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func run(t *testing.T, tool string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("%s is not installed", tool)
	}
	return path
}
