package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// The limits of the house style. The aims are half of them; the limits are what nobody may pass.
const (
	maxFileLines    = 600
	maxFuncLines    = 80
	maxStructFields = 15
)

// understood are methods whose meaning an interface of the standard library fixes, so that a comment could only repeat it.
var understood = []string{"Error", "Is", "String", "Unwrap"}

// Sizes returns what is too large or not documented in the Go files of a tree, one line each. Generated files and folders that Go
// itself ignores are left out; test files have only the limit on their length.
func Sizes(tree fs.FS) ([]string, error) {
	s := &sizes{fset: token.NewFileSet(), documented: map[string]bool{}}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, ".pb.go") {
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return s.file(name, src)
	})
	if err != nil {
		return nil, err
	}
	for pkg, ok := range s.documented {
		if !ok {
			s.found = append(s.found, pkg+": package has no package comment")
		}
	}
	slices.Sort(s.found)
	return s.found, nil
}

// sizes collects findings over the files of a tree.
type sizes struct {
	fset       *token.FileSet
	documented map[string]bool // folder of a package → has a package comment
	found      []string
}

// report adds a finding at a place.
func (s *sizes) report(at token.Pos, format string, args ...any) {
	s.found = append(s.found, fmt.Sprintf("%v: %s", s.fset.Position(at), fmt.Sprintf(format, args...)))
}

// lines is how many lines a node covers.
func (s *sizes) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

// file checks one file.
func (s *sizes) file(name string, src []byte) error {
	f, err := parser.ParseFile(s.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if n := bytes.Count(src, []byte("\n")); n > maxFileLines {
		s.report(f.Pos(), "file has %d lines, limit %d", n, maxFileLines)
	}
	if strings.HasSuffix(name, "_test.go") {
		return nil
	}
	dir := path.Dir(name)
	s.documented[dir] = s.documented[dir] || f.Doc != nil
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.function(d)
		case *ast.GenDecl:
			s.declaration(d)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if t, ok := n.(*ast.StructType); ok && t.Fields.NumFields() > maxStructFields {
			s.report(t.Pos(), "struct has %d fields, limit %d", t.Fields.NumFields(), maxStructFields)
		}
		return true
	})
	return nil
}

// function checks the length of a function or method, and that there is a comment if others can call it.
func (s *sizes) function(d *ast.FuncDecl) {
	if n := s.lines(d); n > maxFuncLines {
		s.report(d.Pos(), "function %s has %d lines, limit %d", d.Name.Name, n, maxFuncLines)
	}
	if d.Doc != nil || !d.Name.IsExported() {
		return
	}
	if d.Recv != nil && (!receiverExported(d.Recv.List[0].Type) || slices.Contains(understood, d.Name.Name)) {
		return
	}
	s.report(d.Pos(), "exported %s has no comment", d.Name.Name)
}

// receiverExported says whether a receiver's type is visible outside its package.
func receiverExported(t ast.Expr) bool {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiverExported(t.X)
	case *ast.IndexExpr: // of a generic type
		return receiverExported(t.X)
	case *ast.IndexListExpr:
		return receiverExported(t.X)
	case *ast.Ident:
		return t.IsExported()
	}
	return false
}

// declaration checks that exported types, constants and variables have a comment: their own, or that of their group.
func (s *sizes) declaration(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
				s.report(spec.Pos(), "exported %s has no comment", spec.Name.Name)
			}
			if t, ok := spec.Type.(*ast.InterfaceType); ok && spec.Name.IsExported() {
				s.methods(spec.Name.Name, t)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					s.report(name.Pos(), "exported %s has no comment", name.Name)
				}
			}
		}
	}
}

// methods checks that the methods of an exported interface have comments: they are what an implementer must keep.
func (s *sizes) methods(name string, t *ast.InterfaceType) {
	for _, m := range t.Methods.List {
		for _, n := range m.Names {
			if n.IsExported() && m.Doc == nil && m.Comment == nil && !slices.Contains(understood, n.Name) {
				s.report(n.Pos(), "method %s of exported %s has no comment", n.Name, name)
			}
		}
	}
}
