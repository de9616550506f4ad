package autoscaler

import (
	"context"
	"fmt"
	"strings"
	"time"

	"adt/events"
	"adt/postmortem"
	"adt/provider"
)

// records is what post-mortems have besides what the server says itself.
type records struct {
	Listed      *listed      `json:"listed,omitempty"`      // by the provider
	Build       *Build       `json:"build,omitempty"`       // its record
	Termination *Termination `json:"termination,omitempty"` // its record
	Known       *Known       `json:"known,omitempty"`       // strikes and last verdict
}

type listed struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	PublicIP  string         `json:"public_ip"`
	PrivateIP string         `json:"private_ip"`
	Created   time.Time      `json:"created"`
	Price     provider.Price `json:"price,omitzero"`
}

// postMortem keeps what a server has to say before it is destroyed. It began at
// since, perhaps in an earlier run: after the archive's deadline the end goes on,
// whatever has been learnt by then. That nothing could be kept is an event and
// delays nobody.
func (a *Autoscaler) postMortem(ctx context.Context, since time.Time, dial postmortem.Dial, s postmortem.Subject) error {
	left := max(0, a.PostMortem.Deadline-age(a.Now(), since))
	report, err := a.PostMortem.Take(ctx, left, dial, s)
	switch {
	case err != nil && ctx.Err() != nil:
		return wait("its post-mortem is not finished")
	case err != nil:
		a.event(events.PostMortemFailed, s.Name, "%v", err)
	case report.Answered:
		a.event(events.PostMortemTaken, s.Name, "%d files%s", len(report.Files), because(report.Faults))
	default:
		a.event(events.PostMortemTaken, s.Name, "it did not answer%s; kept is what the records know", because(report.Faults))
	}
	return nil
}

func because(faults []string) string {
	if len(faults) == 0 {
		return ""
	}
	return " (" + strings.Join(faults, "; ") + ")"
}

// known is what is remembered of a server, if anything is.
func (a *Autoscaler) known(id string) *Known {
	inv, _, err := a.Inventory()
	if k, ok := inv.Servers[id]; ok && err == nil {
		return &k
	}
	return nil
}

// postMortem is a step of a termination, before the machine is shut down. When it
// began is written down first, so that kills cannot make it last longer.
func (e *ender) postMortem(ctx context.Context) error {
	if e.Examined.IsZero() {
		next := e.Termination
		next.Examined = e.Now()
		if err := e.Dir.Write(endFile(e.ID), next); err != nil {
			return err
		}
		e.Termination = next
	}
	err := e.Autoscaler.postMortem(ctx, e.Examined, e.dial, postmortem.Subject{
		ID: e.ID, Name: e.Name, PublicIP: e.PublicIP, PrivateIP: e.PrivateIP, Why: fmt.Sprintf("%s: %s", e.Cause, e.Why), Password: e.password(),
		Records: records{
			Listed:      &listed{ID: e.ID, Name: e.Name, PublicIP: e.PublicIP.String(), PrivateIP: e.PrivateIP.String(), Created: e.Created},
			Termination: &e.Termination, Known: e.known(e.ID),
		},
	})
	e.examined = err == nil
	return err
}

// postMortem is a step of a condemned build, before its server is destroyed for
// the first time.
func (b *builder) postMortem(ctx context.Context, s provider.Server) error {
	if !b.Examined.IsZero() && b.Examined.Before(b.Since) { // it was destroyed since
		b.examined = true
		return nil
	}
	if b.Examined.IsZero() {
		next := b.Build
		next.Examined = b.Now()
		if err := b.save(next); err != nil {
			return err
		}
	}
	err := b.Autoscaler.postMortem(ctx, b.Examined, b.dial, postmortem.Subject{
		ID: s.ID, Name: b.Name, PublicIP: s.PublicIP, PrivateIP: s.PrivateIP, Why: b.Why, Password: b.password(),
		Records: records{
			Listed: &listed{ID: s.ID, Name: s.Name, PublicIP: s.PublicIP.String(), PrivateIP: s.PrivateIP.String(), Created: s.Created, Price: s.Price},
			Build:  &b.Build, Known: b.known(s.ID),
		},
	})
	b.examined = err == nil
	return err
}
