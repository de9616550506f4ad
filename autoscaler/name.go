// Package autoscaler is what adt exists for: which webservers there shall be,
// which are missing, which have to go, and the steps that make it so. It must
// not know vendors, the command line or the configuration file.
package autoscaler

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxAutoscalers is how many autoscalers can share a fleet.
const MaxAutoscalers = 5

// Fleet is what all webservers of one build have in common in their names:
// ws-<region>-<build>-<shard>-<user4>-<rnd4>, the scheme of the shell toolkit.
type Fleet struct {
	Region string // may contain dashes
	Build  string // may contain dashes
	User4  string // the first four characters of the server user
}

// User4 returns the part of a server user that goes into names.
func User4(user string) string {
	if len(user) > 4 {
		return user[:4]
	}
	return user
}

// Name is a webserver's name, taken apart.
type Name struct {
	Shard   int
	Initial bool // built by the build machine; never terminated by adt
}

// Parse takes a name apart, and reports false for every name that is not
// exactly of this fleet: a longer build name, another user and shard 10 where
// there can be five are foreign.
func (f Fleet) Parse(name string) (Name, bool) {
	rest, ok := strings.CutPrefix(name, "ws-"+f.Region+"-"+f.Build+"-")
	if !ok {
		return Name{}, false
	}
	digits, rest, ok := strings.Cut(rest, "-")
	shard, err := strconv.Atoi(digits)
	if !ok || err != nil || shard < 1 || shard > MaxAutoscalers || digits != strconv.Itoa(shard) {
		return Name{}, false
	}
	rest, ok = strings.CutPrefix(rest, f.User4+"-")
	if !ok {
		return Name{}, false
	}
	if n, ok := strings.CutPrefix(rest, "init-"); ok {
		return Name{Shard: shard, Initial: true}, n != "" && strings.Trim(n, digitsOnly) == ""
	}
	return Name{Shard: shard}, len(rest) == 4 && strings.Trim(rest, alphabet) == ""
}

// IsProxy reports whether a name is a reverse proxy's of this fleet:
// rp-<region>-<build>-…, the scheme of the shell toolkit, which leaves open what
// follows. So one of a build whose name goes on behind ours passes; it does not
// let us in, and is published only when it has.
func (f Fleet) IsProxy(name string) bool {
	rest, ok := strings.CutPrefix(name, "rp-"+f.Region+"-"+f.Build+"-")
	return ok && rest != "" && strings.Trim(rest, alphabet+"-") == ""
}

const (
	digitsOnly = "0123456789"
	alphabet   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + digitsOnly
)

// Name makes the name of a webserver that is to be built. rnd is four random
// characters of [A-Za-z0-9].
func (f Fleet) Name(shard int, rnd string) string {
	return fmt.Sprintf("ws-%s-%s-%d-%s-%s", f.Region, f.Build, shard, f.User4, rnd)
}

// InitialName makes the name of the n-th initial webserver.
func (f Fleet) InitialName(shard, n int) string {
	return fmt.Sprintf("ws-%s-%s-%d-%s-init-%d", f.Region, f.Build, shard, f.User4, n)
}

// RandomTail draws the last part of a name from a source of random numbers.
func RandomTail(intN func(int) int) string {
	tail := make([]byte, 4)
	for i := range tail {
		tail[i] = alphabet[intN(len(alphabet))]
	}
	return string(tail)
}
