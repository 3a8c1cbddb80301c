// Package lines is the loop of every driver in Go: one JSON object a line on standard input, one answer a line on standard output.
package lines

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// Timeout bounds whatever a verb waits for.
const Timeout = 60 * time.Second

// lineBytesMax bounds a line: a record that is too large for a topic has to fit.
const lineBytesMax = 16 << 20

// ErrUnsupported says that the client has no such thing.
var ErrUnsupported = errors.New("unsupported")

// Bootstrap is where the broker is.
var Bootstrap = os.Getenv("BOOTSTRAP")

// Record is a record in either direction; what is null is nil. Timestamps are milliseconds, 0 if the client is to choose.
type Record struct {
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   [][2]*string `json:"headers"`
	Timestamp int64        `json:"timestamp"`
}

// Asked is a verb and what comes with it.
type Asked struct {
	Do, Topic, Codec, Acks, Member, Group, Protocol, Reset, ID, Producer string

	Start                 any
	Partitions, Partition int32
	Count                 int
	Before, Timestamp     int64
	Seconds               float64
	Committed             bool
	Config                map[string]string
	Records               []Record
}

// StartAt is the offset where a reader begins: one of the two that mean the first and the last, or a number.
func (a Asked) StartAt(earliest, latest int64) int64 {
	switch start := a.Start.(type) {
	case float64:
		return int64(start)
	case string:
		if start == "latest" {
			return latest
		}
	}
	return earliest
}

// Answer is what is said to a verb.
type Answer map[string]any

// Verbs are what a driver can do.
type Verbs map[string]func(Asked) (Answer, error)

// Text is bytes as they stand in a record.
func Text(bytes []byte) *string {
	if bytes == nil {
		return nil
	}
	text := string(bytes)
	return &text
}

// Bytes is the reverse of Text.
func Bytes(text *string) []byte {
	if text == nil {
		return nil
	}
	return []byte(*text)
}

// Version is the version of a module that the program is built with.
func Version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version[1:]
		}
	}
	return "unknown"
}

// Serve answers until standard input ends; codeOf finds Kafka's code in an error, if it has one.
func Serve(verbs Verbs, codeOf func(error) (int16, bool)) {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, lineBytesMax)
	for input.Scan() {
		line, _ := json.Marshal(answer(verbs, codeOf, input.Bytes()))
		fmt.Println(string(line))
	}
	os.Exit(0)
}

func answer(verbs Verbs, codeOf func(error) (int16, bool), line []byte) Answer {
	var asked Asked
	if err := json.Unmarshal(line, &asked); err != nil {
		return Answer{"error": Answer{"code": nil, "text": err.Error()}}
	}
	verb, known := verbs[asked.Do]
	if !known {
		return Answer{"unsupported": true}
	}
	told, err := verb(asked)
	switch code, coded := codeOf(err); {
	case errors.Is(err, ErrUnsupported):
		return Answer{"unsupported": true}
	case err != nil && coded:
		return Answer{"error": Answer{"code": code, "text": err.Error()}}
	case err != nil:
		return Answer{"error": Answer{"code": nil, "text": err.Error()}}
	case told == nil:
		return Answer{}
	}
	return told
}

// Feed hands records of a client that pushes them to a driver that polls: none is taken before it is asked for.
type Feed struct {
	Errors chan error
	Done   chan struct{}
	// From is whatever the records that were polled last came with. When that changes, as with a new session of a group, what was polled
	// before it does not count: it comes again.
	From any

	items chan item

	lock     sync.Mutex
	assigned []int32
	// Polled has the offset after the last record that was polled of each partition.
	Polled map[int32]int64
}

type item struct {
	record Record
	from   any
}

// NewFeed is a feed of nothing yet.
func NewFeed() *Feed {
	return &Feed{items: make(chan item), Errors: make(chan error, 1), Done: make(chan struct{}), Polled: map[int32]int64{}}
}

// Assign says which partitions the member has.
func (f *Feed) Assign(partitions []int32) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.assigned = append([]int32{}, partitions...)
}

// Put waits until a record is polled; false if nobody will.
func (f *Feed) Put(record Record, from any, stopped <-chan struct{}) bool {
	select {
	case f.items <- item{record, from}:
		return true
	case <-stopped:
	case <-f.Done:
	}
	return false
}

// Fail has the next poll say so.
func (f *Feed) Fail(err error) {
	select {
	case f.Errors <- err:
	default:
	}
}

// Poll is the verb: it waits for a first record, and takes what comes at once after it.
func (f *Feed) Poll(asked Asked) (Answer, error) {
	records := []Record{}
	deadline := time.After(time.Duration(asked.Seconds * float64(time.Second)))
	var silence <-chan time.Time
	for len(records) < asked.Count {
		select {
		case next := <-f.items:
			if next.from != f.From {
				records, f.Polled, f.From = []Record{}, map[int32]int64{}, next.from
			}
			records = append(records, next.record)
			f.Polled[next.record.Partition] = next.record.Offset + 1
			silence = time.After(20 * time.Millisecond)
			continue
		case err := <-f.Errors:
			return nil, err
		case <-silence:
		case <-deadline:
		}
		break
	}
	f.lock.Lock()
	defer f.lock.Unlock()
	assigned := f.assigned
	if assigned == nil {
		assigned = []int32{}
	}
	return Answer{"records": records, "assigned": assigned}, nil
}
