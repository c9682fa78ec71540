// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"time"
)

const waitFlag = "wait"

// waiting is the flag --wait[=D]. It is also what cobra prints of it.
type waiting struct {
	on    bool
	limit time.Duration // 0: none
}

// waitForever is the value of a bare --wait.
const waitForever = "forever"

// String implements pflag.Value.
func (w *waiting) String() string {
	switch {
	case !w.on:
		return ""
	case w.limit == 0:
		return waitForever
	}
	return w.limit.String()
}

// Type implements pflag.Value.
func (w *waiting) Type() string { return "duration" }

// Set implements pflag.Value.
func (w *waiting) Set(text string) error {
	if text == waitForever {
		*w = waiting{on: true}
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return errors.New("it takes a duration above zero, such as 90s or 5m")
	}
	*w = waiting{on: true, limit: d}
	return nil
}
