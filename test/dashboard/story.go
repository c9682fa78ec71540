// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"fmt"
	"slices"
	"time"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

const (
	// scrape is how often Prometheus asks each agent.
	scrape = time.Minute
	// length is how much the pictures show.
	length = 3 * time.Hour
	// before is how long the hosts have been up when they begin.
	before = 10 * time.Minute
)

// begin is midnight of a day like any other: the pictures are the same each time.
func begin() time.Time { return time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) }

// spell is a time during which KMS answers so, to these hosts, about these keys.
type spell struct {
	from, to    time.Duration
	class       fault.Class
	hosts, keys []string // nil: all
	share       float64  // of the calls; 0 for all
}

func (s spell) covers(host, key string, at time.Duration) bool {
	return at >= s.from && at < s.to &&
		(s.hosts == nil || slices.Contains(s.hosts, host)) && (s.keys == nil || slices.Contains(s.keys, key))
}

// event is what somebody does to a host.
type event struct {
	at   time.Duration
	host string
	do   func(*host)
}

// customers have a CMK each.
func customers() []string { return []string{"acme", "globex", "hooli", "initech", "stark", "umbrella"} }

func keyARN(customer string) string {
	n := slices.Index(customers(), customer)
	return fmt.Sprintf("arn:aws:kms:us-east-1:%012d:key/%08x-5c1d-4e0b-9a57-%012x", 111111111111*(n+1), 0x1f3a9c27*(n+1), 0x0b16b00b5*(n+3))
}

// fleet is who has which volumes: host, then customer, then databases.
func fleet() []*host {
	return []*host{
		newHost("db1", disks("acme", "orders", "orders-wal"), disks("globex", "billing", "billing-wal"), disks("initech", "mail")),
		newHost("db2", freezing(disks("acme", "ledger")), disks("umbrella", "crm", "crm-wal"), disks("globex", "inventory")),
		newHost("db3", disks("acme", "reports"), disks("stark", "maps", "maps-wal")),
		newHost("db4", disks("hooli", "search", "search-wal", "ads", "ads-wal", "events"), disks("initech", "analytics", "analytics-wal", "traces")),
		newHost("db5", disks("hooli", "media", "media-wal"), disks("stark", "archive")),
		newHost("db6", disks("initech", "wiki", "wiki-wal"), disks("globex", "forum", "forum-wal"), disks("umbrella", "chat")),
	}
}

// spells: the account of two hosts is throttled, a customer disables a CMK for
// good, two hosts lose their route to KMS.
func spells() []spell {
	return []spell{
		{from: 15 * time.Minute, to: 27 * time.Minute, class: fault.Throttled, hosts: []string{"db5", "db6"}, share: 0.6},
		{from: 66 * time.Minute, to: length + scrape, class: fault.Revoked, keys: []string{"acme"}},
		{from: 101 * time.Minute, to: 122 * time.Minute, class: fault.Unreachable, hosts: []string{"db3", "db5"}},
	}
}

func events() []event {
	return []event{
		{14 * time.Minute, "db6", func(h *host) { h.down = true }},
		{16 * time.Minute, "db6", func(h *host) { h.boot() }},
		{32 * time.Minute, "db2", func(h *host) { h.verb("lock", "denied") }},
		{34 * time.Minute, "db2", func(h *host) { h.verb("lock", "accepted"); h.lock("crm") }},
		{38 * time.Minute, "db2", func(h *host) { h.named("crm").tampered = true }},
		{41 * time.Minute, "db2", func(h *host) { h.verb("unlock", "accepted"); h.unlock("crm") }},
		{52 * time.Minute, "db2", func(h *host) { h.verb("unlock", "refused") }},
		{68 * time.Minute, "db4", func(h *host) { h.stuck = true }},
		{83 * time.Minute, "db4", func(h *host) { h.stuck = false }},
		{86 * time.Minute, "db1", func(h *host) { h.verb("cache-flush", "accepted"); h.flush("flushed") }},
		{128 * time.Minute, "db5", func(h *host) { h.verb("lock", "accepted"); h.lock("archive") }},
		{139 * time.Minute, "db5", func(h *host) { h.verb("unlock", "accepted"); h.unlock("archive") }},
		{146 * time.Minute, "db3", func(h *host) { h.verb("reload", "refused"); h.m.Reloaded(false) }},
		{152 * time.Minute, "db1", func(h *host) { h.verb("reload", "accepted"); h.m.Reloaded(true) }},
		{165 * time.Minute, "db6", func(h *host) { h.down = true }},
	}
}

// world is the fleet and what befalls it.
type world struct {
	hosts  []*host
	spells []spell
	events []event
}

func newWorld() *world { return &world{fleet(), spells(), events()} }

// answer is what KMS says now; luck is between 0 and 1.
func (w *world) answer(host, key string, at time.Duration, luck float64) fault.Class {
	for _, s := range w.spells {
		if s.covers(host, key, at) && (s.share == 0 || luck < s.share) {
			return s.class
		}
	}
	return fault.None
}

// run tells the story, and has each host scraped at each of its moments.
func (w *world) run(scraped func(h *host, at time.Duration) error) error {
	for at := -before; at <= length; at += scrape {
		for _, e := range w.events {
			if e.at == at {
				w.host(e.host).do(at, e.do)
			}
		}
		for _, h := range w.hosts {
			h.pass(w, at)
			if at < 0 {
				continue
			}
			if err := scraped(h, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) host(name string) *host {
	return w.hosts[slices.IndexFunc(w.hosts, func(h *host) bool { return h.name == name })]
}

func disks(customer string, names ...string) (all []*disk) {
	for _, name := range names {
		d := &disk{customer: customer}
		d.Name, d.Wish, d.Phase, d.KeyARN = name, volume.WishMounted, volume.Detached, keyARN(customer)
		all = append(all, d)
	}
	return all
}

// freezing are under the policy lock-freeze.
func freezing(all []*disk) []*disk {
	for _, d := range all {
		d.freezes = true
	}
	return all
}
