package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// bench is one run of this program.
type bench struct {
	gobuild string // absolute path
	busybox string // absolute path of a static one
	dir     string // scratch space, removed at the end
	quick   bool
	rounds  int // 0: each workload's own number
}

// row is one line of the table. Times are in milliseconds, sizes in MiB.
type row struct {
	ID      string    `json:"id"`
	What    string    `json:"what"`
	Unit    string    `json:"unit"`
	Floor   float64   `json:"floor,omitempty"` // median
	Gobuild float64   `json:"gobuild"`         // median
	Ratio   float64   `json:"ratio,omitempty"`
	Bound   string    `json:"bound"`
	OK      bool      `json:"ok"`
	Floors  []float64 `json:"floors,omitempty"` // as measured, in order
	Times   []float64 `json:"times"`
}

// report is what the JSON file holds.
type report struct {
	Time  time.Time `json:"time"`
	CPUs  int       `json:"cpus"`
	Go    string    `json:"go"`
	Quick bool      `json:"quick"`
	Rows  []row     `json:"rows"`
}

// workloads in the order of the table.
var workloads = []struct {
	id  string
	run func(context.Context, *bench) ([]row, error)
}{
	{"S1", benchNoop},
	{"S3", benchRuns},
	{"S4", benchSmallFiles},
	{"S6", benchBigLayer},
	{"S10", benchPush},
	{"S11", benchPull},
	{"S13", benchMemory},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) > 2 && os.Args[1] == peakWord {
		err = peakOf(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:])
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var (
		gobuild = flags.String("gobuild", "bin/gobuild", "the `binary` to measure")
		busybox = flags.String("busybox", "/bin/busybox", "a static busybox")
		dir     = flags.String("dir", "", "parent of the scratch `directory` (default: the system's)")
		out     = flags.String("json", "bench/out.json", "`file` for the results")
		only    = flags.String("only", "", "comma-separated `workloads`: S1,S3,S4,S6,S10,S11,S13")
		quick   = flags.Bool("quick", false, "small sizes")
		strict  = flags.Bool("strict", false, "status 1 when a bound is missed")
		rounds  = flags.Int("rounds", 0, "measurements of each side (default: by workload)")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &bench{busybox: *busybox, quick: *quick, rounds: *rounds}
	if b.gobuild, err = filepath.Abs(*gobuild); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(*dir, "gobuild-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()

	rep := report{Time: time.Now().UTC(), CPUs: runtime.NumCPU(), Go: runtime.Version(), Quick: *quick}
	for _, w := range workloads {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), w.id) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring", w.id)
		rows, err := w.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", w.id, err)
		}
		rep.Rows = append(rep.Rows, rows...)
	}
	if err := rep.write(*out); err != nil {
		return err
	}
	if missed := rep.print(); *strict && missed > 0 {
		return fmt.Errorf("%d bounds missed", missed)
	}
	return nil
}

func (r report) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644) //nolint:gosec // a report is for everyone
}

// print shows the table and returns how many bounds were missed.
func (r report) print() int {
	missed := 0
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\twhat\tfloor\tgobuild\tunit\tratio\tbound\t")
	for _, x := range r.Rows {
		floor, ratio, verdict := "-", "-", "ok"
		if x.Floor > 0 {
			floor = fmt.Sprintf("%.1f", x.Floor)
			ratio = fmt.Sprintf("%.2f", x.Ratio)
		}
		if !x.OK {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t%s\t%s\t%s\t%s\n", x.ID, x.What, floor, x.Gobuild, x.Unit, ratio, x.Bound, verdict)
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	return missed
}
