package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// oldestJava is the first release of Java that Kafka 4 brokers run on.
const oldestJava = 17

// Require skips the test unless real Kafka was asked for (ISTHMUS_KAFKA=1 or ISTHMUS_REQUIRE_KAFKA=1), and then brings
// the jars if they are not there yet. What is missing is named: as the reason of a skip, or as a failure with
// ISTHMUS_REQUIRE_KAFKA=1.
func Require(t testing.TB) {
	t.Helper()
	requireVersion(t, "")
}

// requireVersion is Require for one release of Kafka; "" is the default release.
func requireVersion(t testing.TB, version string) {
	t.Helper()
	required := os.Getenv("ISTHMUS_REQUIRE_KAFKA") == "1"
	if !required && os.Getenv("ISTHMUS_KAFKA") != "1" {
		t.Skip("real Kafka suites are off; ISTHMUS_KAFKA=1 runs them (they need Java 17 and, the first time, Maven)")
	}
	err := errors.Join(checkJava(), fetchJars(version))
	switch {
	case err != nil && required:
		t.Fatalf("real Kafka is required (ISTHMUS_REQUIRE_KAFKA=1): %v", err)
	case err != nil:
		t.Skipf("real Kafka cannot run here: %v", err)
	}
}

// checkJava reports a missing or too old Java by name.
func checkJava() error {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	out, err := exec.Command(java, "-version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("run Java, release %d or newer: %w", oldestJava, err)
	}
	v := javaVersion(string(out))
	if v < oldestJava {
		return fmt.Errorf("run Java, release %d or newer: %s is release %d", oldestJava, java, v)
	}
	return nil
}

// javaVersion finds the feature release in the output of java -version; 0 if there is none. Java 8 calls itself 1.8.
func javaVersion(out string) int {
	m := regexp.MustCompile(`version "(?:1\.)?(\d+)`).FindStringSubmatch(out)
	if m == nil {
		return 0
	}
	v, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return v
}

// fetchJars brings the jars of a release of Kafka, which is quick when they are there. The script's own words are the error:
// it names Maven when that is what is missing.
func fetchJars(version string) error {
	script, err := scriptPath("fetch.sh")
	if err != nil {
		return err
	}
	cmd := exec.Command(script)
	if version != "" {
		cmd.Args = append(cmd.Args, version)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("bring the jars of Kafka: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// scriptPath is the absolute path of a file of scripts/kafka. Go runs tests in the folder of their package, so the
// repository is where the nearest go.mod above is.
func scriptPath(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "scripts", "kafka", name), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the repository: no go.mod above the working directory")
		}
		dir = parent
	}
}
