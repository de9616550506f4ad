package autoscaler

import (
	"regexp"
	"strings"
)

// Role is what a machine of a fleet is for.
type Role string

const (
	RoleWebserver  Role = "webserver"
	RoleAutoscaler Role = "autoscaler"
	RoleProxy      Role = "proxy"
	RoleDatabase   Role = "database"
)

// Roles are all of them.
func Roles() []Role { return []Role{RoleWebserver, RoleAutoscaler, RoleProxy, RoleDatabase} }

// Is reports whether a machine's name is that of a role in this fleet. Reverse
// proxies are rp-<region>-<build>-…, databases db-<region>-<build>-…; as the end
// is the build machine's to choose, it is one word, or as a webserver's.
func (f Fleet) Is(role Role, name string) bool {
	prefix := ""
	switch role {
	case RoleWebserver:
		_, ok := f.Parse(name)
		return ok
	case RoleAutoscaler:
		_, ok := f.ParseAutoscaler(name)
		return ok
	case RoleProxy:
		prefix = "rp-"
	case RoleDatabase:
		prefix = "db-"
	default:
		return false
	}
	rest, ok := strings.CutPrefix(name, prefix+f.Region+"-"+f.Build+"-")
	word := regexp.MustCompile(`^(?:(?:[0-9]+-)?` + regexp.QuoteMeta(f.User4) + `-)?[A-Za-z0-9]+$`)
	return ok && word.MatchString(rest)
}
