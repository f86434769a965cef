package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"

	"gobuild/ui"
)

// rowFormat prints each entry of a list by a Go template (FEATURES I18).
type rowFormat struct{ t *template.Template }

// rowTemplate reads --format where it is a template; nil where it is the name of a format.
func rowTemplate(text string) (*rowFormat, error) {
	if !strings.Contains(text, "{{") {
		return nil, nil
	}
	if len(text) > maxTemplate {
		return nil, usagef("--format: a template may have %d bytes", maxTemplate)
	}
	t, err := template.New("--format").Option("missingkey=error").Funcs(template.FuncMap{
		"json":  templateJSON,
		"size":  size,
		"ago":   ago,
		"join":  strings.Join,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
	}).Parse(text)
	if err != nil {
		return nil, usagef("--format: %w", err)
	}
	return &rowFormat{t}, nil
}

func templateJSON(v any) (string, error) {
	data, err := ui.JSON(v, "")
	return strings.TrimSuffix(string(data), "\n"), err
}

// printRows prints a line for each entry.
func (a *app) printRows(row *rowFormat, list []any) error {
	var out bytes.Buffer
	for _, v := range list {
		if err := row.t.Execute(&bounded{to: &out, left: maxTemplateRow}, v); err != nil {
			return usagef("--format: %w", err)
		}
		out.WriteByte('\n')
	}
	return a.printBytes([]byte(ui.Text(out.String())))
}

// bounded ends a template that prints without end.
type bounded struct {
	to   io.Writer
	left int
}

var errRowTooLong = errors.New("one entry gives more than can be printed")

func (w *bounded) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, fmt.Errorf("%w: %d bytes", errRowTooLong, maxTemplateRow)
	}
	w.left -= len(p)
	return w.to.Write(p)
}
