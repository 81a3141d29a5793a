package main

import (
	"context"
	"net"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// noon is when everything happens in these tests.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// ago is a moment before noon.
func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(-d)) }

// fake answers the admin API over gRPC: each method with what a test wants, and it notes what it was asked.
type fake struct {
	adminpb.UnimplementedAdminServer
	address string
	ledger  []*adminpb.LedgerEntry
	events  []*adminpb.Event
	found   []*adminpb.VerifyResponse // what Verify tells
	breaks  error                     // how Verify ends
	moves   func(req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress)) error

	mu      sync.Mutex
	answers map[string]func(req proto.Message) (proto.Message, error)
	asked   []string // method and request
	tokens  []string
}

// serve starts a fake until the test ends.
func serve(t *testing.T) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{address: l.Addr().String(), answers: map[string]func(proto.Message) (proto.Message, error){}}
	f.on("Status", &adminpb.StatusResponse{Node: theNode()}, nil)
	s := grpc.NewServer(grpc.UnaryInterceptor(f.unary), grpc.StreamInterceptor(f.stream))
	adminpb.RegisterAdminServer(s, f)
	go s.Serve(l) //nolint:errcheck // ends with the test
	t.Cleanup(s.Stop)
	return f
}

func theNode() *adminpb.Node {
	return &adminpb.Node{Name: "eu-1", Writer: "eu-1/0a0b0c0d", Version: "v1", Started: ago(2 * time.Hour), Now: timestamppb.New(noon)}
}

// on sets the answer of a method.
func (f *fake) on(method string, answer proto.Message, err error) {
	f.answer(method, func(proto.Message) (proto.Message, error) { return answer, err })
}

func (f *fake) answer(method string, do func(proto.Message) (proto.Message, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[method] = do
}

// note keeps what was asked, and by whom.
func (f *fake) note(ctx context.Context, method string, req proto.Message) {
	line, err := admin.JSON(req)
	if err != nil {
		line = []byte(err.Error())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, method+" "+string(line))
	md, _ := metadata.FromIncomingContext(ctx)
	f.tokens = append(f.tokens, md.Get("authorization")...)
}

// requests are what was asked since the last call.
func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

func (f *fake) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	f.note(ctx, method, req.(proto.Message))
	f.mu.Lock()
	do := f.answers[method]
	f.mu.Unlock()
	if do == nil {
		return nil, status.Errorf(codes.Internal, "the test has no answer for %s", method)
	}
	return do(req.(proto.Message))
}

func (f *fake) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, ss)
}

// Ledger implements [adminpb.AdminServer].
func (f *fake) Ledger(req *adminpb.LedgerRequest, to grpc.ServerStreamingServer[adminpb.LedgerEntry]) error {
	f.note(to.Context(), "Ledger", req)
	for _, e := range f.ledger {
		if err := to.Send(e); err != nil {
			return err
		}
	}
	return nil
}

// Verify implements [adminpb.AdminServer].
func (f *fake) Verify(req *adminpb.VerifyRequest, to grpc.ServerStreamingServer[adminpb.VerifyResponse]) error {
	f.note(to.Context(), "Verify", req)
	for _, m := range f.found {
		if err := to.Send(m); err != nil {
			return err
		}
	}
	return f.breaks
}

// Switch implements [adminpb.AdminServer].
func (f *fake) Switch(req *adminpb.SwitchRequest, to grpc.ServerStreamingServer[adminpb.SwitchProgress]) error {
	f.note(to.Context(), "Switch", req)
	return f.moves(req, func(m *adminpb.SwitchProgress) { _ = to.Send(m) }) // who is gone gets nothing
}

// Watch implements [adminpb.AdminServer].
func (f *fake) Watch(req *adminpb.WatchRequest, to grpc.ServerStreamingServer[adminpb.Event]) error {
	f.note(to.Context(), "Watch", req)
	for _, e := range f.events {
		if err := to.Send(e); err != nil {
			return err
		}
	}
	<-to.Context().Done()
	return nil
}

// session runs command lines, and tells all that was printed and asked, for a golden file.
func (f *fake) session(t *testing.T, lines ...string) string {
	t.Helper()
	var b strings.Builder
	for _, line := range lines {
		f.requests()
		code, out, errs := f.command(t, line)
		b.WriteString("$ isthmus " + line + "\n" + strings.ReplaceAll(out, f.address, "ADDR"))
		if errs != "" {
			b.WriteString("2> " + strings.ReplaceAll(errs, f.address, "ADDR"))
		}
		if code != exitOK {
			b.WriteString("exit " + string(rune('0'+code)) + "\n")
		}
		for _, r := range f.requests() {
			b.WriteString("<- " + r + "\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// command runs a command line against the fake. Words are apart by blanks; quotes keep one whole.
func (f *fake) command(t *testing.T, line string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr output
	code = run(t.Context(), append(words(line), "--addr", f.address), terminal{
		in: strings.NewReader(""), out: &stdout, err: &stderr, env: func(string) string { return "" },
	})
	return code, stdout.String(), stderr.String()
}

// words splits a line as a shell does with single quotes.
func words(line string) []string {
	var all []string
	word, quoted, begun := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun || word != "" {
				all = append(all, word)
			}
			word, begun = "", false
		default:
			word += string(r)
		}
	}
	return all
}
