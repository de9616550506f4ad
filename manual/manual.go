// Package manual writes manual pages in the language of man(7). It must not
// know what they are about.
package manual

import (
	"fmt"
	"strings"
)

// Page is one manual page of section 1.
type Page struct {
	Name     string // "adt-scale"
	Summary  string // what follows the name, without a full stop
	Source   string // "adt 0.1.0"
	Title    string // of the manual
	Synopsis []string
	Parts    []Part
	SeeAlso  []string // names of pages of section 1
}

// Part is a heading and what is below it, in this order.
type Part struct {
	Heading string
	Blocks  []Block
	Options []Option
}

// Block is text: prose, or lines that stay as they are.
type Block struct {
	Text     string
	Verbatim bool
}

// Option is a flag, a file or a command, and what it does.
type Option struct{ Term, Text string }

// Roff returns the page's source. It is the same for the same page.
func (p Page) Roff() string {
	var b strings.Builder
	// The date is left out: it would make each build another page.
	fmt.Fprintf(&b, ".TH %s 1 \"\" %s %s\n", argument(strings.ToUpper(p.Name)), argument(p.Source), argument(p.Title))
	b.WriteString(".SH NAME\n")
	fmt.Fprintf(&b, "%s \\- %s\n", line(p.Name), line(p.Summary))
	b.WriteString(".SH SYNOPSIS\n")
	for i, s := range p.Synopsis {
		if i > 0 {
			b.WriteString(".br\n")
		}
		b.WriteString(line(s) + "\n")
	}
	for _, part := range p.Parts {
		part.write(&b)
	}
	if len(p.SeeAlso) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, name := range p.SeeAlso {
			comma := ","
			if i == len(p.SeeAlso)-1 {
				comma = ""
			}
			fmt.Fprintf(&b, ".BR %s (1)%s\n", line(name), comma)
		}
	}
	return b.String()
}

func (p Part) write(b *strings.Builder) {
	fmt.Fprintf(b, ".SH %s\n", line(p.Heading))
	for i, block := range p.Blocks {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if block.Verbatim {
			b.WriteString(".nf\n")
		}
		for l := range strings.SplitSeq(strings.TrimRight(block.Text, "\n"), "\n") {
			b.WriteString(line(l) + "\n")
		}
		if block.Verbatim {
			b.WriteString(".fi\n")
		}
	}
	for _, o := range p.Options {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", argument(o.Term), line(o.Text))
	}
}

// line is text as it shall appear: no character of it is a command, and a dash
// is the one that can be pasted into a shell.
func line(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\t", "    ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return strings.TrimRight(text, " ")
}

// argument is text as one argument of a macro.
func argument(text string) string {
	return `"` + strings.ReplaceAll(line(text), `"`, `\(dq`) + `"`
}
