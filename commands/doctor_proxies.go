package commands

import (
	"context"
	"errors"
	"sync"

	"adt/autoscaler"
	"adt/config"
	"adt/provider"
	"adt/remote"
)

// examineProxies logs in to each reverse proxy and runs its configuration test;
// servers are the provider's listing.
func examineProxies(ctx context.Context, h *host, cfg *config.Config, servers []provider.Server) []finding {
	if !cfg.Proxies.Enabled {
		return nil
	}
	a, err := h.assemble(cfg, cfg.RuntimeDir(), nil)
	if err != nil {
		return []finding{wrong("proxies", "see the lines above", "%v", err)}
	}
	proxies := a.ProxiesIn(servers)
	all := []finding{fine("proxies", "%d of kind %s", len(proxies), cfg.Proxies.Kind)}
	if want := max(1, cfg.Proxies.Count); len(proxies) < want {
		all[0] = wrong("proxies", "make them, named rp-"+cfg.Autoscaler.Region+"-"+cfg.Autoscaler.Build+"-… and with the marks of this build, or write their addresses into proxies.addresses",
			"%d are known, and there should be %d", len(proxies), want)
	}
	found := make([]finding, len(proxies))
	var wg sync.WaitGroup
	for i, p := range proxies {
		wg.Go(func() { found[i] = examineProxy(ctx, a, p) })
	}
	wg.Wait()
	return append(all, found...)
}

func examineProxy(ctx context.Context, a *autoscaler.Autoscaler, p autoscaler.Proxy) finding {
	what := "proxy " + p.Name
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	conn, err := a.Proxies.SSH.Dial(ctx, p.PrivateIP)
	switch {
	case errors.Is(err, remote.ErrUnknownHost):
		return wrong(what, "when you know that it is the right machine: ssh-keyscan -p PORT "+p.PrivateIP.String()+" >>"+a.Proxies.SSH.KnownHosts+", or set ssh.shared_host_key", "%v", err)
	case errors.Is(err, remote.ErrHostKey):
		return wrong(what, "is it the right machine? if so, put its key into "+a.Proxies.SSH.KnownHosts, "%v", err)
	case errors.Is(err, remote.ErrLogin):
		return wrong(what, "give the server user there the build key", "%v", err)
	case err != nil:
		return wrong(what, "is it there, and does this machine reach its SSH port?", "%v", err)
	}
	defer conn.Close()
	if err := a.Proxies.Test(ctx, conn, []byte(a.SudoPassword+"\n")); err != nil {
		return wrong(what, "put its configuration right there, or correct proxies.test_command, proxies.root_command and ssh.sudo_password", "%v", err)
	}
	return fine(what, "%s can be logged in to, and its configuration test passes", p.PrivateIP)
}
