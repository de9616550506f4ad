package commands

import (
	"fmt"
	"time"

	"adt/config"
	"adt/events"
	"adt/provider"
)

// quotaLeft is how many calls the vendor of the machines still allows; known is
// false when it does not count them or was not asked in this run.
func quotaLeft(servers provider.Servers) (left int, known bool) {
	metered, ok := bare(servers).(provider.Metered)
	if !ok {
		return 0, false
	}
	return metered.Quota()
}

// scarcity says when the vendor's calls are so few that they are kept for what
// heals.
func scarcity(cfg *config.Config, servers provider.Servers) func() string {
	return func() string {
		left, known := quotaLeft(servers)
		if !known || left >= cfg.DigitalOcean.QuotaReserve {
			return ""
		}
		return fmt.Sprintf("%d API requests are left in this hour, and %d are kept for what heals", left, cfg.DigitalOcean.QuotaReserve)
	}
}

// logQuota records once an hour how many calls the vendor still allows.
func (s *site) logQuota() {
	left, known := quotaLeft(s.Servers)
	now := time.Now()
	if !known || s.log.Recent(now.Add(-time.Hour), now)[events.Matter{Reason: events.QuotaLeft}] {
		return
	}
	s.Record(events.QuotaLeft, "", fmt.Sprintf("%d API requests are left in this hour", left))
}
