package autoscaler

import (
	"time"

	"adt/schedule"
)

// Figures is the fleet in numbers, as one health check saw it.
type Figures struct {
	Profile     *int `json:"profile"`   // of all autoscalers, as last seen; null is none, or not known
	Scheduled   *int `json:"scheduled"` // of all autoscalers, what the schedule's last firing set; null is nothing, or not known
	Initial     int  `json:"initial"`
	Provisioned int  `json:"provisioned"` // of the whole fleet
	Published   int  `json:"published"`   // of those
	Building    int  `json:"building"`    // by this autoscaler
	Draining    int  `json:"draining"`
	Failing     int  `json:"failing"`
}

// figures counts what was observed; it asks nobody.
func (a *Autoscaler) figures(h *health, now time.Time) (Figures, error) {
	f := Figures{Published: h.limits.Published, Building: h.builds, Draining: len(h.ends)}
	profiles, err := a.profilesSeen()
	if err != nil {
		return f, err
	}
	var fired *schedule.Firing
	if a.Schedule != nil {
		if last, ok := a.Schedule.Last(now); ok {
			fired = &last
		}
	}
	f.want(profiles, fired)
	for _, s := range h.servers {
		n, ok := a.Fleet.Parse(s.Name)
		if !ok {
			continue
		}
		f.Provisioned++
		if n.Initial {
			f.Initial++
		}
	}
	for _, s := range h.members {
		if h.verdicts[s.ID].Strikes > 0 {
			f.Failing++
		}
	}
	return f, nil
}

// profilesSeen are those of all autoscalers, from what this run has read already;
// nil is not known: several autoscalers without leases read their own alone.
func (a *Autoscaler) profilesSeen() ([]*Profile, error) {
	if a.board != nil {
		var all []*Profile
		for k := 1; k <= max(a.Autoscalers, a.Shard); k++ {
			all = append(all, a.board.posts[k].profile)
		}
		return all, nil
	}
	if a.Autoscalers > 1 {
		return nil, nil
	}
	var last lastKnown
	_, err := a.Dir.Read(storeFile, &last)
	return []*Profile{last.Profile}, err
}

// promptly is within what time of a firing a profile that is set is the firing's
// doing.
const promptly = 10 * time.Minute

// want sums up the profiles, and finds what the schedule set. After an addition
// that is what they are once all were set by it.
func (f *Figures) want(profiles []*Profile, fired *schedule.Firing) {
	total, known, applied := 0, false, true
	for _, p := range profiles {
		if p == nil {
			continue // an addition sets none there
		}
		total, known = total+p.Count, true
		applied = applied && fired != nil && !p.Set.Before(fired.At) && p.Set.Before(fired.At.Add(promptly))
	}
	if known {
		f.Profile = &total
	}
	switch {
	case fired == nil:
	case fired.Count != nil:
		f.Scheduled = fired.Count
	case known && applied:
		f.Scheduled = &total
	}
}
