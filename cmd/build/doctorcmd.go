package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"gobuild/builder"
	"gobuild/internal/userns"
	"gobuild/registry"
	"gobuild/ui"
)

func doctorCommand() command {
	return command{
		name: "doctor", group: "State", args: "[REGISTRY...]", short: "Show what this machine offers to builds, and what it lacks",
		long: `Try what builds need on this machine, in the state directory, and say of each capability
whether it is there (ok, limited or missing), why, and what provides it. Nothing is left
behind. Registries that are named are asked whether they answer, and to whom. It exits with 3 when
a build with RUN cannot run, and else with 4 when a registry does not answer.`,
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "json", kind: kindBool, text: "as JSON"},
				{name: "cgroup-parent", kind: kindString, arg: "PATH", text: "control group to run steps below, as for build"},
			}
		},
		run: (*app).doctor, rights: always(rightsLayers),
	}
}

func (a *app) doctor(ctx context.Context, args []string) error {
	var hosts []string
	for _, arg := range args {
		host, err := registry.ParseHost(arg)
		if err != nil {
			return usagef("%w", err)
		}
		hosts = append(hosts, host)
	}
	cfg, err := a.config(a.flags)
	if err != nil {
		return err
	}
	namespace := a.noNamespace
	if cfg.RecordOwners {
		namespace = userns.Missing(a.namespaceConfig())
	}
	d := builder.Doctor(ctx, cfg, builder.DoctorOptions{
		TempDir: a.env.tempDir(), Path: a.helperPath(), CgroupParent: a.flags.str("cgroup-parent"), Registries: hosts, Namespace: namespace,
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return a.showDiagnosis(d)
}

// helperPath is PATH with the places of system programs, which users often lack in theirs.
func (a *app) helperPath() []string {
	return append(filepath.SplitList(a.env["PATH"]), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin")
}

// showDiagnosis prints a diagnosis; the exit code says whether a RUN can run.
func (a *app) showDiagnosis(d *builder.Diagnosis) error {
	var err error
	if a.flags.is("json") {
		err = a.printJSON(d)
	} else {
		err = a.print(ui.Checks(d.Checks, a.resultTheme())...)
	}
	if err == nil && !d.CanRun {
		return &statusError{exitEnvironment}
	}
	silent := func(c builder.Check) bool {
		return strings.HasPrefix(c.Name, "registry ") && c.State == builder.StateMissing
	}
	if err == nil && slices.ContainsFunc(d.Checks, silent) {
		return &statusError{exitRemote}
	}
	return err
}

// resultTheme is the colours of standard output, which only a terminal gets.
func (a *app) resultTheme() ui.Theme {
	if a.flags.is("no-color") || !isTerminal(a.stdout) {
		return ui.Theme{}
	}
	return a.theme()
}
