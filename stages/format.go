package stages

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tree draws the plan for people: the stages in the order of the plan, their steps with their numbers, and what each reads.
func (p *Plan) Tree() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan for %s\n", platformName(p.Platform))
	for i, s := range p.Stages {
		lead, below := branch("", i == len(p.Stages)-1)
		what := s.label() + " from " + p.sourceLabel(s.Base)
		if s.Platform.OS != p.Platform.OS || s.Platform.Architecture != p.Platform.Architecture || s.Platform.Variant != p.Platform.Variant {
			what += " on " + platformName(s.Platform)
		}
		if s == p.Target() {
			what += ", the result"
		}
		b.WriteString(lead + oneLine(what) + "\n")
		for k := range s.Steps {
			lead, _ := branch(below, k == len(s.Steps)-1)
			b.WriteString(lead + oneLine(p.stepLabel(s, &s.Steps[k])) + "\n")
		}
	}
	return b.String()
}

// branch draws the beginning of a line, and what stands below it.
func branch(before string, last bool) (lead, below string) {
	if last {
		return before + "└─ ", before + "   "
	}
	return before + "├─ ", before + "│  "
}

func (p *Plan) stepLabel(s *Stage, step *Step) string {
	text := fmt.Sprintf("%d/%d %s", step.Number, s.Total, step.Text)
	var needs []string
	for _, r := range reads(step) {
		if label := p.sourceLabel(r.source); !slices.Contains(needs, label) {
			needs = append(needs, label)
		}
	}
	if len(needs) > 0 {
		text += "  (needs " + strings.Join(needs, ", ") + ")"
	}
	return text
}

// label is the stage by number, and by name when it has one of its own.
func (s *Stage) label() string {
	number := fmt.Sprintf("stage %d", s.Index)
	if s.Name == "" || s.Name == fmt.Sprintf("stage-%d", s.Index) {
		return number
	}
	return number + " " + s.Name
}

func (p *Plan) sourceLabel(src Source) string {
	switch src.Kind {
	case SourceStage:
		for _, s := range p.Stages {
			if s.Index == src.Stage {
				return s.label()
			}
		}
		return fmt.Sprintf("stage %d", src.Stage)
	case SourceImage:
		return src.Image.Name
	case SourceContext:
		if src.Name == "" {
			return "the build context"
		}
		return "context " + src.Name
	case SourceScratch, SourceInline, SourceHTTP, SourceGit, SourceMixed:
	}
	return string(src.Kind)
}

// read is one tree other than its own that a step reads.
type read struct {
	source Source
	by     string // COPY, ADD or mount
}

// reads are the stages, images and named contexts that a step reads. The build context is not among them: every edge would end there.
func reads(step *Step) []read {
	var list []read
	add := func(src Source, by string) {
		if src.Kind == SourceStage || src.Kind == SourceImage || src.Kind == SourceContext && src.Name != "" {
			list = append(list, read{src, by})
		}
	}
	switch {
	case step.Copy != nil && step.Copy.Add:
		add(step.Copy.From, "ADD")
	case step.Copy != nil:
		add(step.Copy.From, "COPY")
	case step.Run != nil:
		for _, m := range step.Run.Mounts {
			add(m.From, "mount")
		}
	}
	return list
}

func platformName(p ocispec.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// graph is the plan as nodes and edges, for programs that draw.
type graph struct {
	nodes []graphNode
	edges []graphEdge
	ids   map[string]string // of what is no stage, by label
}

type graphNode struct {
	id    string
	lines []string
	stage bool // else an image or a named context
	last  bool // the result
}

// graphEdge leads from what is read to what reads it.
type graphEdge struct {
	from, to string
	by       []string // FROM, COPY, ADD, mount
}

func (p *Plan) graph() *graph {
	g := &graph{ids: map[string]string{}}
	for _, s := range p.Stages {
		id := fmt.Sprintf("stage%d", s.Index)
		g.nodes = append(g.nodes, graphNode{id: id, lines: []string{s.label(), counted(len(s.Steps), "step")}, stage: true, last: s == p.Target()})
		if s.Base.Kind != SourceScratch {
			g.edge(p, s.Base, id, "FROM")
		}
		for k := range s.Steps {
			for _, r := range reads(&s.Steps[k]) {
				g.edge(p, r.source, id, r.by)
			}
		}
	}
	return g
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// edge adds one, or a reason to one that is there.
func (g *graph) edge(p *Plan, src Source, to, by string) {
	from := fmt.Sprintf("stage%d", src.Stage)
	if src.Kind != SourceStage {
		from = g.outside(p.sourceLabel(src))
	}
	for i := range g.edges {
		if e := &g.edges[i]; e.from == from && e.to == to {
			if !slices.Contains(e.by, by) {
				e.by = append(e.by, by)
			}
			return
		}
	}
	g.edges = append(g.edges, graphEdge{from, to, []string{by}})
}

// outside is the node of an image or a named context.
func (g *graph) outside(label string) string {
	id := g.ids[label]
	if id == "" {
		id = fmt.Sprintf("base%d", len(g.ids))
		g.ids[label] = id
		g.nodes = append(g.nodes, graphNode{id: id, lines: []string{label}})
	}
	return id
}

// Dot writes the graph of the stages for Graphviz. An arrow leads from what is read to what reads it.
func (p *Plan) Dot() string {
	g := p.graph()
	var b strings.Builder
	b.WriteString("digraph plan {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n")
	for _, n := range g.nodes {
		style := "shape=ellipse"
		if n.stage {
			style = "shape=box"
		}
		if n.last {
			style += ", peripheries=2"
		}
		fmt.Fprintf(&b, "  %s [label=%s, %s];\n", n.id, dotText(n.lines), style)
	}
	for _, e := range g.edges {
		style := ""
		if !slices.Contains(e.by, "FROM") {
			style = ", style=dashed"
		}
		fmt.Fprintf(&b, "  %s -> %s [label=%s%s];\n", e.from, e.to, dotText([]string{strings.Join(e.by, ", ")}), style)
	}
	b.WriteString("}\n")
	return b.String()
}

// dotText quotes lines (The DOT Language, "ID"; escString).
func dotText(lines []string) string {
	quoted := make([]string, len(lines))
	for i, l := range lines {
		quoted[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(oneLine(l))
	}
	return `"` + strings.Join(quoted, `\n`) + `"`
}

// Mermaid writes the same graph as a Mermaid flowchart.
func (p *Plan) Mermaid() string {
	g := p.graph()
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for _, n := range g.nodes {
		open, end := "(", ")"
		switch {
		case n.last:
			open, end = "[[", "]]"
		case n.stage:
			open, end = "[", "]"
		}
		fmt.Fprintf(&b, "  %s%s%s%s\n", n.id, open, mermaidText(n.lines), end)
	}
	for _, e := range g.edges {
		arrow := "-.->"
		if slices.Contains(e.by, "FROM") {
			arrow = "-->"
		}
		fmt.Fprintf(&b, "  %s %s|%s| %s\n", e.from, arrow, mermaidText([]string{strings.Join(e.by, ", ")}), e.to)
	}
	return b.String()
}

// mermaidText quotes lines; its entities begin with # where HTML's begin with &.
func mermaidText(lines []string) string {
	quoted := make([]string, len(lines))
	for i, l := range lines {
		quoted[i] = strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "`", "#96;").Replace(oneLine(l))
	}
	return `"` + strings.Join(quoted, "<br>") + `"`
}

// oneLine keeps text from Dockerfiles from beginning a line of its own.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "\t", " ").Replace(s)
}
