package manual_test

import (
	"strings"
	"testing"

	"adt/manual"
)

func TestRoff(t *testing.T) {
	got := manual.Page{
		Name: "adt-x", Summary: "does x", Source: "adt 1", Title: "adt \"manual\"", Synopsis: []string{"adt x [flags]", "adt x --y"},
		Parts: []manual.Part{
			{Heading: "DESCRIPTION", Blocks: []manual.Block{{Text: "One.\n.de is no macro, 'nor this\n'nor that"}, {Text: "a \\ b   \n  c", Verbatim: true}}},
			{Heading: "OPTIONS", Options: []manual.Option{{Term: "--y", Text: "does y"}}},
		},
		SeeAlso: []string{"adt", "adt-z"},
	}.Roff()
	want := `.TH "ADT\-X" 1 "" "adt 1" "adt \(dqmanual\(dq"
.SH NAME
adt\-x \- does x
.SH SYNOPSIS
adt x [flags]
.br
adt x \-\-y
.SH DESCRIPTION
One.
\&.de is no macro, 'nor this
\&'nor that
.PP
.nf
a \e b
  c
.fi
.SH OPTIONS
.TP
.B "\-\-y"
does y
.SH SEE ALSO
.BR adt (1),
.BR adt\-z (1)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(got, "\n\n") {
		t.Error("an empty line, which roff would show")
	}
}
