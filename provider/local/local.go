// Package local is a real small cloud on one machine: every server is a
// process with its own loopback addresses, an SSH server, an HTTPS server with
// its own certificate and a home directory like a webserver's. Boot takes its
// time, machines and API fail on demand, and nothing leaves the machine.
//
// A cloud is a directory; every process that opens it sees the same machines,
// and the machines outlive the process that ordered them. A client may be
// killed at any point: the next one finishes what it had begun, as a vendor
// would.
//
// The package knows user data but no autoscalers, profiles or command line. It
// needs Linux, where all of 127.0.0.0/8 answers without set-up; elsewhere each
// address would have to be added to the loopback interface first.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"adt/provider"
)

// Config is how a client reaches a cloud, and what the servers that it creates
// are like.
type Config struct {
	Dir    string // the cloud; made if missing
	Token  string // has to equal the content of the cloud's file "token", where there is one
	Client string // which machine is calling, for outages; may be empty

	Boot              time.Duration // from power on to an answering SSH server
	Build             time.Duration // from boot to WEBSERVER_READY
	SSHPort           int           // default 2222
	HTTPSPort         int           // default 8443
	HeadFile          string        // the page that is checked, default index.html
	ApplicationConfig string        // path below the home directory; "" for none

	Latency time.Duration // of every API call
	Command []string      // what becomes a server, its directory appended; default: this program with "local-server"
}

// Cloud is a client of one cloud. It is safe for concurrent use, also by
// several processes.
type Cloud struct {
	config Config
	// at is told the step just taken; tests die in it.
	at func(step string)
}

var (
	_ provider.Servers   = (*Cloud)(nil)
	_ provider.DNS       = (*Cloud)(nil)
	_ provider.AllowList = (*Cloud)(nil)
)

// The files of a cloud, and of one server below servers/<id>/.
const (
	lockFile    = "cloud.lock"
	tokenFile   = "token"
	serversDir  = "servers"
	dnsFile     = "dns.json"
	allowFile   = "allowlist.json"
	faultsFile  = "faults.json"
	auditFile   = "audit.jsonl"
	callsFile   = "calls.jsonl"
	pendingFile = "pending.json"

	metaFile     = "meta.json"
	userDataFile = "userdata"
	aliveFile    = "lock"
	stateFile    = "state.json"
	faultFile    = "fault.json"
	logFile      = "server.log"
	homeDir      = "home"
)

// patience bounds waits for a process to start or to die.
const patience = 15 * time.Second

// Open makes the directory a cloud if it is missing or empty. A directory that
// holds anything else is an error, so that Clean can never take it away.
func Open(config Config) (*Cloud, error) {
	if config.Dir == "" {
		return nil, errors.New("local: open a cloud: no directory given")
	}
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("local: open the cloud %s: %w", config.Dir, err)
	}
	config.Dir = dir
	config.SSHPort = orDefault(config.SSHPort, 2222)
	config.HTTPSPort = orDefault(config.HTTPSPort, 8443)
	if config.HeadFile == "" {
		config.HeadFile = "index.html"
	}
	if len(config.Command) == 0 {
		program, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("local: open the cloud %s: %w", dir, err)
		}
		config.Command = []string{program, "local-server"}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local: open the cloud: %w", err)
	}
	if err := checkIsCloud(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, serversDir), 0o700); err != nil {
		return nil, fmt.Errorf("local: open the cloud: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("local: open the cloud: %w", err)
	}
	if err := lock.Close(); err != nil {
		return nil, fmt.Errorf("local: open the cloud: %w", err)
	}
	return &Cloud{config: config, at: func(string) {}}, nil
}

func orDefault(port, fallback int) int {
	if port == 0 {
		return fallback
	}
	return port
}

// checkIsCloud accepts a directory that holds nothing but what a cloud's does,
// whole or half made.
func checkIsCloud(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("local: look into %s: %w", dir, err)
	}
	ours := []string{lockFile, tokenFile, serversDir, dnsFile, allowFile, faultsFile, auditFile, callsFile, pendingFile}
	for _, entry := range entries {
		name := entry.Name()
		if !slices.ContainsFunc(ours, func(file string) bool {
			// The second form is a temporary file that a killed writer left.
			return name == file || strings.HasPrefix(name, "."+file)
		}) {
			return fmt.Errorf("local: %s is not a cloud: it contains %s", dir, name)
		}
	}
	return nil
}

func (c *Cloud) path(elem ...string) string {
	return filepath.Join(append([]string{c.config.Dir}, elem...)...)
}

func (c *Cloud) server(id string, elem ...string) string {
	return filepath.Join(append([]string{c.config.Dir, serversDir, id}, elem...)...)
}

// locked runs a short critical section of the whole cloud, after finishing
// what a killed client left in the middle.
func (c *Cloud) locked(ctx context.Context, section func() error) error {
	var held *os.File
	err := every(ctx, 2*time.Millisecond, func() (bool, error) {
		f, err := tryLock(c.path(lockFile))
		if f == nil || err != nil {
			return false, err
		}
		// A cloud that was cleaned meanwhile has taken its lock file along.
		mine, err := f.Stat()
		if err != nil {
			return false, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(c.path(lockFile)); err != nil || !os.SameFile(mine, now) {
			return false, errors.Join(fmt.Errorf("the cloud %s is gone", c.config.Dir), f.Close())
		}
		held = f
		return true, nil
	})
	if err != nil {
		return err
	}
	defer held.Close()
	if err := c.finishPending(); err != nil {
		return err
	}
	return section()
}

// authorised compares the token with the cloud's.
func (c *Cloud) authorised() error {
	token, err := os.ReadFile(c.path(tokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(token)) != c.config.Token {
		return fmt.Errorf("the token is not this cloud's: %w", provider.ErrUnauthorized)
	}
	return nil
}
