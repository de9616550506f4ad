package commands

import (
	"context"

	"adt/events"
	"adt/heartbeat"
)

// opened is called when the configuration of a run is known: its monitor is told
// while the work begins.
func (r *run) opened(ctx context.Context, s *site) {
	if r == nil {
		return
	}
	r.site = s
	b := s.cfg.Heartbeat
	if address := b.URL(r.command); !address.IsZero() {
		r.beat = heartbeat.Monitor{URL: address.Reveal(), Style: heartbeat.Style(b.Style), Timeout: b.Timeout.Std(), CA: b.CA}.Start(ctx)
	}
}

// told tells the monitor how the run ended.
func (r *run) told(ctx context.Context, ok bool) {
	if r.beat != nil {
		r.fault(events.HeartbeatLost, r.beat.End(ctx, ok))
	}
}
