package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"adt/remote"
)

// errConnected marks an error that came after the SSH log-in, so that it is not
// taken for one of TCP.
var errConnected = errors.New("after log-in")

// sight is what one SSH session saw on the machine.
type sight struct {
	marker   bool          // an online marker is there
	config   bool          // the application config is there, or none is asked for
	building time.Duration // age of the build-in-progress marker; 0 without one
}

// look asks all that SSH can tell in one session. The first connection to the
// SSH port is the TCP rung as well.
func (p *Prober) look(ctx context.Context, addr netip.Addr) (sight, error) {
	var seen sight
	err := p.retry(ctx, func(ctx context.Context) error {
		conn, err := p.SSH.Dial(ctx, addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		out, err := conn.Run(ctx, p.script(), nil)
		if err != nil {
			return fmt.Errorf("%w: %w", errConnected, err)
		}
		seen, err = parseSight(string(out))
		return err
	})
	return seen, err
}

// script prints one line for parseSight. The age is taken by the machine's own
// clock on both ends, which may differ from ours. A marker that vanishes while it
// is looked at counts as gone.
func (p *Prober) script() string {
	markers := p.OnlineMarkers
	if len(markers) == 0 {
		markers = []string{"runtime/AUTOSCALED_WEBSERVER_ONLINE", "runtime/INITIAL_BUILD_WEBSERVER_ONLINE"}
	}
	var b strings.Builder
	b.WriteString("marker=0 config=1 building=0\n")
	for _, file := range markers {
		fmt.Fprintf(&b, "[ -e %s ] && marker=1\n", remote.Quote(file))
	}
	if p.ApplicationConfig != "" {
		fmt.Fprintf(&b, "[ -e %s ] || config=0\n", remote.Quote(p.ApplicationConfig))
	}
	build := p.BuildInProgress
	if build == "" {
		build = defaultBuildInProgress
	}
	fmt.Fprintf(&b, "since=$(stat -c %%Y -- %s 2>/dev/null) && building=$(( $(date +%%s) - since ))\n", remote.Quote(build))
	b.WriteString(`echo "adt-probe $marker $config $building"` + "\n")
	return b.String()
}

// parseSight reads the script's line; a login shell may have printed others.
func parseSight(out string) (sight, error) {
	for line := range strings.Lines(out) {
		var marker, config, seconds int
		if n, _ := fmt.Sscanf(line, "adt-probe %d %d %d\n", &marker, &config, &seconds); n == 3 {
			return sight{marker: marker == 1, config: config == 1, building: time.Duration(seconds) * time.Second}, nil
		}
	}
	return sight{}, errors.New("SSH: the machine's shell gave no answer to the probe")
}
