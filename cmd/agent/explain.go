// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// explanation is what explain prints, as JSON too.
type explanation struct {
	Name     string          `json:"name"` // as configured
	Phase    volume.Phase    `json:"phase"`
	Wish     volume.Wish     `json:"wish"`    // the operator's standing word
	Meaning  string          `json:"meaning"` // what the phase is, a sentence
	Why      string          `json:"why"`     // why it is so, a sentence or two
	Since    *time.Time      `json:"since"`   // of what why says
	Class    fault.Class     `json:"class"`   // of what is wrong; "" if nothing is
	Who      []fault.Owner   `json:"who"`     // must act, the likeliest first; empty: nobody
	Next     []string        `json:"next"`    // what to do, most urgent first
	KeyARN   string          `json:"key_arn"` // the CMK, as configured
	KeyState volume.KeyState `json:"key_state"`
	KeySince *time.Time      `json:"key_since"` // when that state was first seen
}

func (c *cli) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain NAME", Short: "Say why a volume is as it is, who must act, and what to do",
		Args: oneVolume, ValidArgsFunction: c.volumeNames, SuggestFor: []string{"why", "diagnose"},
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.explain(cmd.Context(), args[0])
			if err != nil {
				return &stepError{title: readStatus, err: err}
			}
			return c.print(e, func() { c.printExplanation(e) })
		},
	}
}

func (c *cli) explain(ctx context.Context, name string) (explanation, error) {
	client := c.client()
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil {
		return explanation{}, err
	}
	one, err := narrow(s, name)
	if err != nil {
		return explanation{}, err
	}
	return c.explanationOf(one), nil
}

func (c *cli) explanationOf(one volume.Snapshot) explanation {
	v := one.Volumes[0]
	e := explanation{
		Name: v.Name, Phase: v.Phase, Wish: v.Wish, Meaning: meaningOf(v), Why: why(v), Since: v.Since,
		Class: v.Class, Who: []fault.Owner{}, Next: c.next(v), KeyARN: v.KeyARN, KeyState: volume.KeyUnknown,
	}
	if v.Class != fault.None {
		e.Who = whoOf(v)
		e.Since = v.FailingSince
	}
	for _, k := range one.Keys {
		e.KeyState, e.KeySince = k.State, k.Since
	}
	return e
}

// whoOf is who must act on what is wrong with a volume. An agent of an older
// version does not say: then the class does.
func whoOf(v volume.Status) []fault.Owner {
	if len(v.Who) > 0 {
		return v.Who
	}
	return v.Class.Owners()
}

// why is the cause of the state, in a sentence or two.
func why(v volume.Status) string {
	switch {
	case v.Class != fault.None && v.Phase == volume.Mounted:
		return "It works on, but the next boot would not mount it: " + v.Error
	case v.Class != fault.None && v.FailedStep != "":
		return v.FailedStep + " failed: " + v.Error
	case v.Class != fault.None:
		return v.Error
	case v.Wish == volume.WishSealed && v.Satisfied():
		return "An operator locked it."
	case v.Wish == volume.WishDetached && v.Satisfied():
		return "An operator released it."
	case v.Phase == volume.Mounted && v.Satisfied() && v.WouldSurviveReboot:
		return "All is well: what the next boot needs is tried again and again."
	case v.Phase == volume.Mounted && v.Satisfied():
		return "What the next boot needs has not been tried yet since the agent started."
	case v.Progress != "":
		return "The agent is at work: " + v.Progress + "."
	}
	return "The agent is at work: the volume is to be " + string(v.Wish) + "."
}

// next is what to do, most urgent first.
func (c *cli) next(v volume.Status) []string {
	todo := []string{}
	if v.Phase == volume.Mounted && !v.WouldSurviveReboot {
		todo = append(todo, "Do not reboot or stop this instance, and do not detach or lock the volume: it might not come back.")
	}
	if v.Frozen() {
		todo = append(todo, "Leave the database waiting: it goes on where it stopped. To lock the volume, to kill the database or to reboot is a power cut for it.")
	}
	if v.Class != fault.None {
		todo = append(todo, hintFor(v.Hint, v.Class))
	}
	if r := v.Rotation; r != nil && r.Class != fault.None {
		todo = append(todo, "A rotation of its keys is held up, which harms nothing: "+r.Error+" "+hintFor(r.Hint, r.Class))
	}
	if v.Notice != "" {
		todo = append(todo, v.Notice)
	}
	switch {
	case v.Phase == volume.Quarantined:
		todo = append(todo, "Once that is understood: volseal reattach "+v.Name)
	case v.NextRetry != nil:
		todo = append(todo, "The agent tries again by itself, "+c.until(*v.NextRetry)+".")
	case v.Class == fault.None && v.Wish == volume.WishSealed && v.Satisfied():
		todo = append(todo, "To open it: volseal unlock "+v.Name)
	case v.Class == fault.None && v.Wish == volume.WishDetached && v.Satisfied():
		todo = append(todo, "To attach and open it: volseal reattach "+v.Name)
	}
	return todo
}

func namesOf(owners []fault.Owner) string {
	if len(owners) == 0 {
		return "nobody needs to act"
	}
	names := make([]string, 0, len(owners))
	for _, o := range owners {
		names = append(names, string(o))
	}
	return strings.Join(names, ", ")
}

func (c *cli) printExplanation(e explanation) {
	since := "-"
	if e.Since != nil {
		since = fmt.Sprintf("%s (%s ago)", clock(e.Since), c.ago(e.Since))
	}
	who := namesOf(e.Who)
	class := ""
	if e.Class != fault.None {
		class = " (" + string(e.Class) + ")"
	}
	fmt.Fprintf(c.stdout, "%s is %s%s.\n\n", e.Name, e.Phase, class)
	for _, f := range [][2]string{{"what:  ", e.Meaning}, {"why:   ", e.Why}, {"since: ", since}, {"who:   ", who}} {
		fmt.Fprint(c.stdout, wrap(f[0], f[1]))
	}
	head := "next:  "
	for _, n := range e.Next {
		fmt.Fprint(c.stdout, wrap(head, n))
		head = "       "
	}
	fmt.Fprintf(c.stdout, "key:   %s", e.KeyState)
	if e.KeySince != nil {
		fmt.Fprintf(c.stdout, " for %s", c.ago(e.KeySince))
	}
	fmt.Fprintf(c.stdout, "\n  %s\n", shown(e.KeyARN))
}
