package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// functions are what templates may call, besides those of text/template.
func functions(t *template.Template) template.FuncMap {
	return template.FuncMap{
		"quote": quote,
		"text":  text,
		"file":  file,
		"shell": shell,
		"gzip":  gzipped,
		"list":  func(items ...string) []string { return items },
		"include": func(name string, data any) (string, error) {
			var b strings.Builder
			err := t.ExecuteTemplate(&b, name, data)
			return b.String(), err
		},
		"need": func(what, value string) (string, error) {
			if strings.TrimSpace(value) == "" {
				return "", fmt.Errorf("no %s", what)
			}
			return value, nil
		},
	}
}

// quote writes any text as a YAML scalar on one line. Go and YAML share the
// escapes of a quoted ASCII string.
func quote(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errors.New("a text that is not UTF-8 cannot be written")
	}
	return strconv.QuoteToASCII(s), nil
}

// text writes any text as a YAML scalar, for people to read if it allows that:
// its lines below, indented by so many blanks.
func text(indent int, s string) (string, error) {
	if !legible(s) {
		return quote(s)
	}
	margin := strings.Repeat(" ", indent)
	var b strings.Builder
	b.WriteString("|")
	for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
		b.WriteString("\n")
		if line != "" {
			b.WriteString(margin + line)
		}
	}
	return b.String(), nil
}

// legible reports whether a literal block of YAML holds s unchanged, in the
// eyes of every reader: such a block ends with one newline, finds its
// indentation in its first line, and has printable characters only.
func legible(s string) bool {
	body, whole := strings.CutSuffix(s, "\n")
	if !whole || body == "" || strings.HasPrefix(body, " ") || strings.HasPrefix(body, "\t") || strings.HasPrefix(body, "\n") ||
		strings.HasSuffix(body, "\n") || !utf8.ValidString(s) {
		return false
	}
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" && strings.TrimSpace(line) == "" {
			return false
		}
	}
	return !strings.ContainsFunc(body, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) })
}

// file writes the content of an item of write_files, indented by so many
// blanks: legible text as it is, anything else compressed.
func file(indent int, content []byte) (string, error) {
	margin := strings.Repeat(" ", indent)
	if legible(string(content)) {
		body, err := text(indent+2, string(content))
		return margin + "content: " + body, err
	}
	packed, err := gzipped(content)
	return margin + "encoding: gz+b64\n" + margin + "content: " + packed, err
}

// shell writes any text as one word of sh.
func shell(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", errors.New("a text with a zero byte cannot be a word of sh")
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil
}

// gzipped is cloud-init's encoding gz+b64. The same content gives the same
// text.
func gzipped(content []byte) (string, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := z.Write(content); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}
