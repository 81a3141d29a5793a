package embedded

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func isErr(err, want error) bool { return errors.Is(err, want) }

func TestNew_ChecksTheDirectory(t *testing.T) {
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		spoil func(*testing.T, string)
		want  error
		text  string
	}{
		"empty":        {func(*testing.T, string) {}, nil, ""},
		"ours":         {write(formatFile, "1\n"), nil, ""},
		"newer format": {write(formatFile, "2\n"), ErrNewerFormat, "start a newer isthmus"},
		"no number":    {write(formatFile, "x"), nil, "not a format version"},
		"foreign":      {write("photo.jpg", ""), ErrForeign, "photo.jpg"},
		"file, no dir": {func(t *testing.T, dir string) {
			if err := errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, nil, "create"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			tc.spoil(t, dir)
			c, err := New(Config{Name: "eu", Dir: dir, Listen: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
			switch {
			case err == nil:
				c.Close()
				if tc.text != "" {
					t.Error("New accepted it")
				}
			case tc.text == "":
				t.Errorf("New = %v", err)
			case !strings.Contains(err.Error(), tc.text) || tc.want != nil && !isErr(err, tc.want):
				t.Errorf("New = %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
}

func TestNew_OneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Name: "eu", Dir: dir, Listen: "127.0.0.1:0"}
	first, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); !isErr(err, ErrInUse) {
		t.Fatalf("second New = %v, want ErrInUse", err)
	}
	first.Close()
	second, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("New after Close = %v", err)
	}
	second.Close()
}
