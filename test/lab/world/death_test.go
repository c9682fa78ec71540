// SPDX-License-Identifier: Apache-2.0

package world_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/volseal/volseal/test/lab/world"
)

// A world that is killed leaves no metadata service behind.
func TestChildDiesWithItsWorld(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperWorld$")
	cmd.Env = append(os.Environ(), "VOLSEAL_HELPER_DIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	child := ""
	for child == "" && lines.Scan() {
		child = strings.TrimPrefix(lines.Text(), "child=")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if child == "" {
		t.Fatal("the helper started no child")
	}
	for range 1000 {
		state, err := os.ReadFile("/proc/" + child + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		time.Sleep(5 * time.Millisecond) // nobody tells a stranger of a grandchild's end
	}
	t.Errorf("process %s outlived its world", child)
}

// TestHelperWorld is the world that is killed; alone it is no test.
func TestHelperWorld(t *testing.T) {
	dir := os.Getenv("VOLSEAL_HELPER_DIR")
	if dir == "" {
		t.Skip("only for TestChildDiesWithItsWorld")
	}
	if _, err := world.Start(t.Context(), world.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("child=" + children(t)[0])
	select {}
}
