package commands

import (
	"context"

	"adt/config"
)

// examineNotify asks whether the mail server accepts us, and sends nothing: a
// webhook cannot be asked without posting to it.
func examineNotify(ctx context.Context, cfg *config.Config) []finding {
	if !cfg.Notify.On() {
		return nil
	}
	const what = "notifications"
	roots, err := authorities(cfg.Notify.CA)
	if err != nil {
		return []finding{wrong(what, "notify.ca has to be a file of certificates (PEM)", "%v", err)}
	}
	all := mailers(cfg, roots)
	if len(all) == 0 {
		return []finding{fine(what, "a webhook; adt notify test shows whether it takes messages")}
	}
	m := all[0] // one server, one account
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	if err := m.Examine(ctx); err != nil {
		f := undelivered(m, err)
		f.What = what
		return []finding{f}
	}
	how := "without logging in"
	if m.User != "" {
		how = "as " + m.User
	}
	return []finding{fine(what, "%s accepts us %s, %s", m.Server(), how, m.Security)}
}
