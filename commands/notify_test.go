package commands_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"adt/events"
	"adt/notify/notifytest"
)

// post is the mail server and the webhook of one script.
type post struct {
	mails *notifytest.Server
	hooks *notifytest.Hook
}

// close ends both, where they were started.
func (p *post) close() {
	if p.mails != nil {
		p.mails.Stop()
		p.hooks.Stop()
	}
}

// postOffice starts and breaks a script's mail server and webhook:
//
//	post open starttls              $SMTP_HOST, $SMTP_PORT, $HOOK and $CA tell how to reach them
//	post stop                       the mail server listens no more
//	post start                      and again, on its port
//	post refuse ops@example.com     no such user
//	post answer 500                 the webhook's answer; 200 takes messages again
func postOffice(ts *testscript.TestScript, neg bool, args []string) {
	p := ts.Value(post{}).(*post)
	what := strings.Join(args, " ")
	var err error
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: post open|stop|start|refuse|answer")
	case args[0] == "open" && len(args) == 2:
		err = p.open(ts, args[1])
	case what == "stop":
		p.mails.Stop()
	case what == "start":
		err = p.mails.Start()
	case args[0] == "refuse" && len(args) == 2:
		p.mails.Refuse(args[1], 550, "no such user")
	case what == "answer 200":
		p.hooks.Answer(nil)
	case args[0] == "answer" && len(args) == 2:
		var code int
		code, err = strconv.Atoi(args[1])
		p.hooks.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	default:
		ts.Fatalf("there is no post %s", what)
	}
	ts.Check(err)
}

func (p *post) open(ts *testscript.TestScript, security string) error {
	authority, err := notifytest.NewAuthority()
	if err != nil {
		return err
	}
	ca, errWrite := authority.Write(ts.Getenv("WORK"))
	mails, errMail := notifytest.NewServer(authority, security)
	hooks, errHook := notifytest.NewHook(authority)
	if err := errors.Join(errWrite, errMail, errHook); err != nil {
		return err
	}
	p.mails, p.hooks = mails, hooks
	ts.Setenv("CA", ca)
	ts.Setenv("SMTP_HOST", authority.Address)
	ts.Setenv("SMTP_PORT", fmt.Sprint(mails.Port()))
	ts.Setenv("HOOK", hooks.URL)
	return nil
}

// arrived wants so many mails or posts since the beginning, and the words in the
// last one:
//
//	arrived mail 2 'RECOVERED: INFO STRIKE'
//	arrived post 1
func arrived(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: arrived mail|post NUMBER [WORDS...]")
	}
	p := ts.Value(post{}).(*post)
	var texts []string
	switch args[0] {
	case "mail":
		for _, m := range p.mails.Mails() {
			texts = append(texts, m.To+"\n"+m.Subject+"\n"+m.Text)
		}
	case "post":
		for _, b := range p.hooks.Bodies() {
			texts = append(texts, string(b))
		}
	}
	if fmt.Sprint(len(texts)) != args[1] {
		ts.Fatalf("%d arrived, want %s:\n%s", len(texts), args[1], strings.Join(texts, "\n\n"))
	}
	for _, w := range args[2:] {
		if !strings.Contains(texts[len(texts)-1], w) {
			ts.Fatalf("%q is not in the last one:\n%s", w, texts[len(texts)-1])
		}
	}
}

// record adds an event to the log, as a tick would:
//
//	record WARN STRIKE ws-lon1-shop-1-agil-aaaa 'HTTPS: status 500'
func record(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: record LEVEL REASON SERVER TEXT")
	}
	log, err := events.Open(filepath.Join(ts.Getenv("HOME"), "logs", "events"))
	ts.Check(err)
	e := events.Event{Time: time.Now(), Level: events.Level(args[0]), Reason: events.Reason(args[1]), Autoscaler: 1, Command: "scale", Server: strings.TrimPrefix(args[2], "-"), Text: args[3]}
	ts.Check(log.Add(e))
}

// secretly wants neither the password nor a part of the webhook's secret in any
// file below the home directory but those named.
func secretly(ts *testscript.TestScript, _ bool, but []string) {
	home := ts.Getenv("HOME")
	ts.Check(filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || slices.Contains(but, filepath.Base(path)) {
			return err
		}
		text := ts.ReadFile(path)
		for secret := range strings.SplitSeq(notifytest.Secret+"/"+notifytest.Password, "/") {
			if strings.Contains(text, secret) {
				ts.Fatalf("a secret is in %s", path)
			}
		}
		return nil
	}))
}
