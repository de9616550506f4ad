package proxy

import "testing"

func TestFirstError(t *testing.T) {
	for want, said := range map[string]string{
		"": " \n\n",
		`nginx: [emerg] no servers are inside upstream in /etc/nginx/conf.d/adt-shop.conf:2`: "nginx: [warn] conflicting server name\n" +
			"nginx: [emerg] no servers are inside upstream in /etc/nginx/conf.d/adt-shop.conf:2\nnginx: configuration file /etc/nginx/nginx.conf test failed\n",
		`[ALERT] (12) : config : parsing [/etc/haproxy/adt/shop.cfg:7] : 'server ws-10.0.0.1' unknown keyword 'x'.`: "[NOTICE]   (12) : haproxy version is 2.6.12\n" +
			"[ALERT]    (12) : config : parsing [/etc/haproxy/adt/shop.cfg:7] : 'server ws-10.0.0.1' unknown keyword 'x'.\n",
		`AH00526: Syntax error on line 3 of adt-shop.conf: BalancerMember unknown Worker parameter`: "AH00558: apache2: Could not reliably determine the server's name\n" +
			"AH00526: Syntax error on line 3 of adt-shop.conf:\nBalancerMember unknown Worker parameter\n",
		"it just does not work": "it just\tdoes not work\nsorry\n",
	} {
		if got := firstError(said); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}
