package commands

import (
	"bytes"
	"io"
	"sync"
)

// longestLine is after how many bytes a line is broken, in the output of many.
const longestLine = 64 << 10

// lines writes whole lines, each behind a prefix. Several may share a writer by
// sharing a mutex: then no line is torn.
type lines struct {
	mu     *sync.Mutex
	to     io.Writer
	prefix string
	begun  []byte
}

func (l *lines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		take := end + 1
		if end < 0 {
			take = len(rest)
		}
		take = min(take, max(1, longestLine-len(l.begun)))
		l.begun = append(l.begun, rest[:take]...)
		rest = rest[take:]
		if whole := l.begun[len(l.begun)-1] == '\n'; whole || len(l.begun) >= longestLine {
			if err := l.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// flush writes what has no line end yet, and gives it one.
func (l *lines) flush() error {
	if len(l.begun) == 0 {
		return nil
	}
	line := append([]byte(l.prefix), l.begun...)
	if line[len(line)-1] != '\n' {
		line = append(line, '\n')
	}
	l.begun = l.begun[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.to.Write(line)
	return err
}

// mostKept is how much of a machine's output a result holds, in bytes.
const mostKept = 1 << 20

// kept holds the first mostKept bytes and passes over the rest.
type kept struct {
	bytes.Buffer
	cut bool
}

func (k *kept) Write(p []byte) (int, error) {
	room := min(len(p), mostKept-k.Len())
	k.cut = k.cut || room < len(p)
	_, _ = k.Buffer.Write(p[:room]) // never fails
	return len(p), nil
}
