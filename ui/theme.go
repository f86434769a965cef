package ui

import (
	"fmt"
	"strconv"
	"strings"
)

// Theme holds the SGR parameters of the few things that have a colour. The zero
// Theme has none. Colour never carries a meaning that the text does not.
type Theme struct {
	Run, Cancel, Error, Warning string
	on                          bool
}

// DefaultTheme is the theme used on a terminal.
func DefaultTheme() Theme {
	return Theme{Run: "34", Cancel: "33", Error: "31", Warning: "33", on: true}
}

// Enabled says that there is colour at all, so colours of step output are kept too.
func (t Theme) Enabled() bool { return t.on }

// ParseColors changes t by a list as BuildKit's BUILDKIT_COLORS has it:
// run=cyan:error=yellow:cancel=blue:warning=white, a value being a colour name or r,g,b.
func (t Theme) ParseColors(list string) (Theme, error) {
	for _, field := range strings.Split(list, ":") {
		if strings.TrimSpace(field) == "" {
			continue
		}
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return t, fmt.Errorf("%q is not key=colour", field)
		}
		sgr, err := parseColor(strings.TrimSpace(value))
		if err != nil {
			return t, err
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "run":
			t.Run = sgr
		case "cancel":
			t.Cancel = sgr
		case "error":
			t.Error = sgr
		case "warning":
			t.Warning = sgr
		default:
			return t, fmt.Errorf("unknown key %q: run, cancel, error and warning have a colour", key)
		}
	}
	return t, nil
}

func parseColor(s string) (string, error) {
	names := []string{"black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"}
	for i, name := range names {
		if strings.EqualFold(s, name) {
			return strconv.Itoa(30 + i), nil
		}
		if strings.EqualFold(s, "light"+name) || strings.EqualFold(s, "light-"+name) {
			return strconv.Itoa(90 + i), nil
		}
	}
	rgb := strings.Split(s, ",")
	if len(rgb) != 3 {
		return "", fmt.Errorf("unknown colour %q", s)
	}
	for i, part := range rgb {
		n, err := strconv.ParseUint(strings.TrimSpace(part), 10, 8)
		if err != nil {
			return "", fmt.Errorf("colour %q: each of r,g,b is 0 to 255", s)
		}
		rgb[i] = strconv.FormatUint(n, 10)
	}
	return "38;2;" + strings.Join(rgb, ";"), nil
}

// paint wraps s, which must be clean, in a colour.
func (t Theme) paint(sgr, s string) string {
	if !t.on || sgr == "" {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}
