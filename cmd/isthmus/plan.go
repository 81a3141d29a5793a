package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/topology"
)

// routing is what plan tells, as --json prints it.
type routing struct {
	File     string        `json:"file"`
	Fabric   string        `json:"fabric"`
	Clusters []siteJSON    `json:"clusters"`
	Links    []linkJSON    `json:"links"`
	Plans    []topicRoutes `json:"plans"`
	// Left counts the plans that are not told, because they are too many.
	Left int `json:"left,omitempty"`
}

// siteJSON is a cluster.
type siteJSON struct {
	Name string `json:"name"`
	DC   string `json:"dc,omitempty"`
}

// linkJSON is a link of the file, or one that a short form stands for.
type linkJSON struct {
	Name    string   `json:"name"`
	From    string   `json:"from"`
	To      string   `json:"to"`
	Topics  []string `json:"topics"`
	Exclude []string `json:"exclude,omitempty"`
	Naming  string   `json:"naming,omitempty"` // what it calls the topics, if not by their names
	Written string   `json:"written"`          // where, and as what
}

// topicRoutes is how the topics go that the same links take.
type topicRoutes struct {
	Topics []string      `json:"topics"` // patterns
	Sample string        `json:"sample"` // a name that fits
	Routes []routeJSON   `json:"routes"`
	Links  []carriedJSON `json:"links"` // those that take the topics
	// Cycles are ways back, as names of links, which the loop filter cuts.
	Cycles [][]string `json:"cycles"`
}

// routeJSON is the way of one origin's records to a target.
type routeJSON struct {
	Origin string   `json:"origin"`
	Target string   `json:"target"`
	As     string   `json:"as,omitempty"` // what the sample is called there, where that is another name
	Hops   int      `json:"hops"`
	Links  []string `json:"links"`
}

// carriedJSON is whose records a link copies.
type carriedJSON struct {
	Link    string   `json:"link"`
	Origins []string `json:"origins"`
}

func planCommand(t terminal) *cobra.Command {
	var asJSON, asDot bool
	var topics []string
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Tell which links a topology file has, and who carries whose records",
		Long: `Tells what a topology file comes to: all links, also those that [[mesh]] and [[hub]] stand for, and over which of them the records
of each cluster reach each other one. No node is asked, and no cluster. FILE may be -, for what comes in.

Topics that the same links take have one plan. A plan shows the clusters that are joined; then, from each cluster, the way of what
is produced there: each line is a cluster, the number of links to it, and the link that brings it there; then whose records each
link carries. A record comes to a cluster over one way only: the fewest links, and of equal ways the first by the links' names.

A file whose topics would come twice or go round for ever is refused, with the links that do it. Exits 2 for a file with faults.`,
		Example: `  isthmus plan isthmus.toml
  isthmus plan isthmus.toml --topic orders
  isthmus plan isthmus.toml --dot | dot -Tsvg > fabric.svg
  isthmus plan isthmus.toml --json | jq '.plans[].routes[] | select(.hops > 1)'`,
		Args: cobra.ExactArgs(1),
		RunE: verb(func(_ *cobra.Command, args []string) error {
			text, err := readTopology(t, args[0])
			if err != nil {
				return usage(err)
			}
			topo, err := topology.Parse(args[0], []byte(text))
			if err != nil {
				return usage(err)
			}
			r := routesOf(args[0], topo, topics)
			switch {
			case asJSON:
				return json.NewEncoder(t.out).Encode(r)
			case asDot:
				_, err = fmt.Fprint(t.out, r.dot())
			default:
				_, err = fmt.Fprint(t.out, r.text())
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	cmd.Flags().BoolVar(&asDot, "dot", false, "a graph for Graphviz")
	cmd.Flags().StringSliceVar(&topics, "topic", nil, "only these `topics`, by name")
	cmd.MarkFlagsMutuallyExclusive("json", "dot")
	return cmd
}

// routesOf gathers what there is to tell of a topology: of some topics, or of all that its patterns tell of.
func routesOf(file string, topo *topology.Topology, topics []string) routing {
	r := routing{File: file, Fabric: topo.Fabric.Name, Links: []linkJSON{}, Plans: []topicRoutes{}}
	for _, c := range topo.Clusters {
		r.Clusters = append(r.Clusters, siteJSON{c.Name, c.DC})
	}
	for _, l := range topo.Links {
		r.Links = append(r.Links, linkJSON{l.Name, l.From, l.To, l.Topics.Strings(), l.Exclude.Strings(), l.Naming.String(), topo.Written(l.Name)})
	}
	plans, left := topo.RoutePlans(topics...)
	r.Left = left
	for _, p := range plans {
		of := topicRoutes{Topics: p.Topics, Sample: p.Sample, Routes: []routeJSON{}, Links: []carriedJSON{}, Cycles: [][]string{}}
		for _, route := range p.Routes {
			of.Routes = append(of.Routes, routeJSON{route.Origin, route.Target, route.As, len(route.Links), route.Links})
		}
		for _, c := range p.Carried {
			of.Links = append(of.Links, carriedJSON{c.Link, append([]string{}, c.Origins...)})
		}
		of.Cycles = append(of.Cycles, p.Cycles...)
		r.Plans = append(r.Plans, of)
	}
	return r
}
