package commands

import (
	"context"
	"errors"

	"adt/config"
	"adt/provider"
)

// examineDatabase asks whether the managed database's allow list can be read.
// Whether it can be written is not tried: that would change who may connect.
func examineDatabase(ctx context.Context, cfg *config.Config) []finding {
	const what = "database"
	if cfg.Database.Driver == "none" || cfg.Database.Driver == "local" && missing(cfg.Local.Path) {
		return nil
	}
	list, err := openAllowList(cfg, nil)
	if err != nil {
		return []finding{wrong(what, "put that right in "+cfg.Path, "%v", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	if e, ok := list.(provider.Examiner); ok {
		var all []finding
		for _, f := range e.Examine(ctx) {
			all = append(all, finding{f.What, f.OK, f.Detail, f.Hint})
		}
		return all
	}
	entries, err := list.Allowed(ctx)
	switch {
	case errors.Is(err, provider.ErrUnauthorized):
		return []finding{wrong(what, "the same account is asked for servers: see the lines above", "%v", err)}
	case err != nil:
		return []finding{wrong(what, "new webservers wait for it; see the lines above", "%v", err)}
	}
	return []finding{fine(what, "its allow list has %d entries", len(entries))}
}
