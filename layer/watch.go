package layer

// watch looks for the needles in what a file has.
func (opt PackOptions) watch(e *entry, data []byte) {
	if opt.Watch != nil {
		opt.Watch.Find(data, func(needle string) { opt.Found(e.name, needle) })
	}
}

// watchName looks for them in the name of an entry, and in where its link leads.
func (opt PackOptions) watchName(e *entry) {
	if opt.Watch != nil {
		opt.watch(e, []byte(e.name))
		opt.watch(e, []byte(e.link))
	}
}
