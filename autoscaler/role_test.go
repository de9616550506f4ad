package autoscaler

import "testing"

func TestRoles(t *testing.T) {
	f := Fleet{Region: "lon1", Build: "shop", User4: "agil"}
	for name, want := range map[string]Role{
		"ws-lon1-shop-1-agil-x7Qp":   RoleWebserver,
		"ws-lon1-shop-2-agil-init-1": RoleWebserver,
		"NO-3-as-lon1-shop-x7Qp":     RoleAutoscaler,
		"rp-lon1-shop-x7Qp":          RoleProxy,
		"rp-lon1-shop-agil-x7Qp":     RoleProxy,
		"rp-lon1-shop-2-agil-x7Qp":   RoleProxy,
		"db-lon1-shop-x7Qp":          RoleDatabase,
		// Those of others:
		"rp-lon1-shop-2-x7Qp": "", "rp-lon1-shop-": "", "rp-lon1-shop": "", "rp-lon1-shopx-a": "", "db-nyc3-shop-x7Qp": "",
		"rp-lon1-shop-other-x7Qp": "", "xrp-lon1-shop-x7Qp": "", "ws-lon1-shop-9-agil-x7Qp": "", "NO-3-as-lon1-shop-2-x7Qp": "",
	} {
		for _, role := range Roles() {
			if got := f.Is(role, name); got != (role == want) {
				t.Errorf("%s is a %s: %v", name, role, got)
			}
		}
	}
	if f.Is("", "ws-lon1-shop-1-agil-x7Qp") {
		t.Error("no role is one")
	}
}
