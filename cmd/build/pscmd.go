package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/docker/go-units"

	"gobuild/builder"
	"gobuild/ui"
)

func psCommand() command {
	return command{
		name: "ps", group: "State", short: "Show the builds and steps that run",
		long: `Show the builds that go on with this state directory, whoever started them, and the steps that
each is at. Of a RUN: the process number of its init, how many processes it has, their memory,
the mount, pid and network namespace (as lsns shows them) and the cgroup. --json has all of its namespaces.`,
		flags: func() []flagSpec {
			return []flagSpec{formatFlag(), {name: "json", kind: kindBool, text: "the same as --format=json"}}
		},
		run: (*app).ps,
	}
}

func (a *app) ps(_ context.Context, args []string) error {
	if err := errors.Join(noArgs("ps", args), checkFormat(a.flags.str("format"), "table", "json")); err != nil {
		return err
	}
	var list []builder.RunningBuild
	err := a.withBuilder(func(b *builder.Builder) (err error) {
		list, err = b.Running()
		return err
	})
	if err != nil {
		return err
	}
	if a.flags.is("json") || a.flags.str("format") == "json" {
		return a.printJSON(append([]builder.RunningBuild{}, list...))
	}
	now := time.Now()
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{r.ID, strconv.Itoa(r.Pid), ui.Line(r.Project), "", elapsed(now.Sub(r.Begun)), "", "", "", ""})
		for _, s := range r.Steps {
			rows = append(rows, stepRow(&s, now))
		}
	}
	return a.table([]string{"BUILD", "PID", "STEP", "LINE", "TIME", "PIDS", "MEMORY", "MNT PID NET", "CGROUP"}, rows)
}

// stepRow is one step; what is only known of a RUN is empty of others.
func stepRow(s *builder.RunningStep, now time.Time) []string {
	const textWidth = 40
	text := ui.Line(s.Text)
	if runes := []rune(text); len(runes) > textWidth {
		text = string(runes[:textWidth-3]) + "..."
	}
	row := []string{"", "", fmt.Sprintf("%s %d/%d %s", ui.Line(s.Stage), s.Number, s.Total, text), strconv.Itoa(s.Line), elapsed(now.Sub(s.Begun)), "", "", "", ""}
	if s.Pid == 0 {
		return row
	}
	row[1] = strconv.Itoa(s.Pid)
	if s.Pids > 0 {
		row[5], row[6] = strconv.Itoa(s.Pids), units.BytesSize(float64(s.Memory))
		row[7] = fmt.Sprintf("%d %d %d", s.Namespaces["mnt"], s.Namespaces["pid"], s.Namespaces["net"])
		row[8] = ui.Line(s.Cgroup)
	}
	return row
}
