// nats-load loads a NATS JetStream server for the comparison and prints one JSON object with the names of
// millrace-bench. A stream stands for a partition. JetStream has no batches on the wire: each message is published
// and acknowledged by itself, so a window counts messages. Latency counts from the send, or, with -rate, from when the
// message was due.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// What has to be true of an acknowledgement of JetStream: an error has another first key.
var acknowledged = []byte(`{"stream":`)

const (
	// How long the last acknowledgements may take.
	patience = 20 * time.Second
	// How often an open loop looks at the clock.
	tick = 200 * time.Microsecond
	// What a reader may have lying in its client, in bytes and messages: no reader is ever cut off for being slow.
	pendingMax = 1 << 30
	prefix     = "millrace-compare-"
)

type options struct {
	url                                       string
	connections, streams, inFlight, bytes     int
	rate, seconds, warmup, readers, brokerPid int
}

// window is the time that is measured.
type window struct{ begin, end time.Time }

func (w window) has(t time.Time) bool { return !t.Before(w.begin) && t.Before(w.end) }

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.url, "url", "nats://127.0.0.1:4222", "of the server")
	flag.IntVar(&o.connections, "connections", 4, "that publish")
	flag.IntVar(&o.streams, "streams", 1, "each with one subject; made for the run and deleted after it")
	flag.IntVar(&o.inFlight, "in-flight", 1, "messages on their way per connection")
	flag.IntVar(&o.bytes, "bytes", 1024, "of a message")
	flag.IntVar(&o.rate, "rate", 0, "messages per second in all (open loop); as fast as it goes if 0")
	flag.IntVar(&o.readers, "readers", 0, "ordered consumers of each stream at its end")
	flag.IntVar(&o.seconds, "seconds", 4, "to measure")
	flag.IntVar(&o.warmup, "warmup", 1, "seconds before measuring")
	flag.IntVar(&o.brokerPid, "broker-pid", 0, "process whose CPU time and memory are told")
	flag.Parse()
	result, err := run(o)
	if err != nil {
		log.Fatal(err)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

func run(o options) (map[string]any, error) {
	admin, err := nats.Connect(o.url)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	js, err := admin.JetStream(nats.MaxWait(patience))
	if err != nil {
		return nil, err
	}
	for i := range o.streams {
		name := fmt.Sprint(prefix, i)
		if err := js.DeleteStream(name); err != nil && err != nats.ErrStreamNotFound {
			return nil, err
		}
		config := &nats.StreamConfig{Name: name, Subjects: []string{name}, Storage: nats.FileStorage, Replicas: 1}
		if _, err := js.AddStream(config); err != nil {
			return nil, err
		}
		defer js.DeleteStream(name)
	}

	read, err := startReaders(o)
	if err != nil {
		return nil, err
	}
	begin := time.Now().Add(100 * time.Millisecond)
	w := window{begin.Add(time.Duration(o.warmup) * time.Second), begin.Add(time.Duration(o.warmup+o.seconds) * time.Second)}
	publishers := make([]*publisher, o.connections)
	for i := range publishers {
		if publishers[i], err = newPublisher(o, i, w); err != nil {
			return nil, err
		}
		defer publishers[i].connection.Close()
	}
	for _, p := range publishers {
		go p.run(o, begin)
	}
	time.Sleep(time.Until(w.begin))
	cpuBegin, ownBegin, readBegin := cpuSeconds(o.brokerPid), cpuSeconds(os.Getpid()), read.Load()
	time.Sleep(time.Until(w.end))
	cpu, own := cpuSeconds(o.brokerPid)-cpuBegin, cpuSeconds(os.Getpid())-ownBegin
	fetched := read.Load() - readBegin

	var latencies []time.Duration
	acked, errors := 0, 0
	for _, p := range publishers {
		if err := p.drain(); err != nil {
			return nil, err
		}
		latencies = append(latencies, p.latencies...)
		acked += p.acked
		errors += p.errors
	}
	stored := uint64(0)
	for i := range o.streams {
		info, err := js.StreamInfo(fmt.Sprint(prefix, i))
		if err != nil {
			return nil, err
		}
		stored += info.State.Msgs
	}
	return report(o, latencies, acked, int(stored), errors, cpu, own, fetched)
}

func report(o options, latencies []time.Duration, acked, stored, errors int, cpu, own float64, fetched int64) (map[string]any, error) {
	if len(latencies) == 0 {
		return nil, fmt.Errorf("nothing was acknowledged while it was measured; %d errors", errors)
	}
	slices.Sort(latencies)
	at := func(share float64) float64 {
		return float64(latencies[min(len(latencies)-1, int(float64(len(latencies))*share))]) / 1e6
	}
	seconds := float64(o.seconds)
	rate := float64(len(latencies)) / seconds
	result := map[string]any{
		"seconds": seconds, "records_per_s": rate, "requests_per_s": rate, "mb_per_s": rate * float64(o.bytes) / 1e6,
		"latency_p50_ms": at(0.5), "latency_p90_ms": at(0.9), "latency_p99_ms": at(0.99), "latency_p99_9_ms": at(0.999), "latency_max_ms": at(1),
		"generator_busiest_thread": own / seconds, "errors": errors,
		"records_acked_in_all": acked, "records_lost": max(0, acked-stored), "records_again_or_out_of_order": max(0, stored-acked),
	}
	gigabytes := rate * float64(o.bytes) * seconds / 1e9
	if o.readers > 0 {
		result["fetch_mb_per_s"] = float64(fetched) / seconds / 1e6
		gigabytes += float64(fetched) / 1e9
	}
	if o.brokerPid > 0 {
		result["broker_cores"] = cpu / seconds
		result["broker_cpu_s_per_gb"] = cpu / gigabytes
	}
	return result, nil
}

// publisher is one connection with its share of the load.
type publisher struct {
	connection *nats.Conn
	inbox      string
	payload    []byte
	window     window
	stop       time.Time
	streams    []string
	sent       []time.Time // by slot: when what is on its way was sent, or due
	free       chan int    // slots, for open loop
	openLoop   bool
	next       atomic.Int64
	out        atomic.Int64 // on their way
	finished   chan struct{}
	latencies  []time.Duration
	acked      int
	errors     int
}

func newPublisher(o options, index int, w window) (*publisher, error) {
	connection, err := nats.Connect(o.url)
	if err != nil {
		return nil, err
	}
	p := &publisher{connection: connection, inbox: nats.NewInbox(), payload: make([]byte, o.bytes), window: w, stop: w.end,
		sent: make([]time.Time, o.inFlight), free: make(chan int, o.inFlight), openLoop: o.rate > 0, finished: make(chan struct{})}
	p.next.Store(int64(index))
	for i := range p.payload {
		p.payload[i] = byte('a' + rand.Intn(26))
	}
	for i := range o.streams {
		p.streams = append(p.streams, fmt.Sprint(prefix, i))
	}
	for slot := range o.inFlight {
		p.free <- slot
	}
	subscription, err := connection.Subscribe(p.inbox+".*", p.onAck)
	if err != nil {
		return nil, err
	}
	if err := subscription.SetPendingLimits(pendingMax, pendingMax); err != nil {
		return nil, err
	}
	return p, connection.Flush()
}

// onAck counts an acknowledgement; in closed loop the next message follows at once.
func (p *publisher) onAck(message *nats.Msg) {
	now := time.Now()
	slot, err := strconv.Atoi(message.Subject[len(p.inbox)+1:])
	if err != nil || slot < 0 || slot >= len(p.sent) {
		log.Fatalf("an acknowledgement to %q", message.Subject)
	}
	if bytes.HasPrefix(message.Data, acknowledged) && !bytes.Contains(message.Data, []byte(`"error"`)) {
		p.acked++
		// As in millrace-bench: in open loop what was due within the window counts, whenever it is answered.
		counts := p.window.has(now)
		if p.openLoop {
			counts = p.window.has(p.sent[slot])
		}
		if counts {
			p.latencies = append(p.latencies, now.Sub(p.sent[slot]))
		}
	} else {
		p.errors++
	}
	switch {
	case p.openLoop:
		p.out.Add(-1)
		p.free <- slot
	case now.Before(p.stop):
		p.publish(slot, now)
	default:
		if p.out.Add(-1) == 0 {
			close(p.finished)
		}
	}
}

func (p *publisher) publish(slot int, due time.Time) {
	p.sent[slot] = due
	subject := p.streams[int(p.next.Add(1))%len(p.streams)]
	if err := p.connection.PublishRequest(subject, p.inbox+"."+strconv.Itoa(slot), p.payload); err != nil {
		log.Fatal(err)
	}
}

func (p *publisher) run(o options, begin time.Time) {
	time.Sleep(time.Until(begin))
	if !p.openLoop {
		p.out.Store(int64(o.inFlight))
		for slot := range o.inFlight {
			p.publish(slot, time.Now())
		}
		return
	}
	gap := time.Duration(float64(time.Second) * float64(o.connections) / float64(o.rate))
	// Connections take turns.
	due := begin.Add(gap * time.Duration(p.next.Load()) / time.Duration(o.connections))
	for due.Before(p.stop) {
		if time.Now().Before(due) {
			time.Sleep(tick)
			continue
		}
		slot := <-p.free
		p.out.Add(1)
		p.publish(slot, due)
		due = due.Add(gap)
	}
	for range o.inFlight {
		<-p.free
	}
	close(p.finished)
}

func (p *publisher) drain() error {
	select {
	case <-p.finished:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%d messages have no acknowledgement after %s", p.out.Load(), patience)
	}
}

// startReaders counts the bytes that ordered consumers get, on a connection of their own.
func startReaders(o options) (*atomic.Int64, error) {
	var read atomic.Int64
	for range o.readers {
		connection, err := nats.Connect(o.url)
		if err != nil {
			return nil, err
		}
		js, err := connection.JetStream()
		if err != nil {
			return nil, err
		}
		for i := range o.streams {
			subscription, err := js.Subscribe(fmt.Sprint(prefix, i), func(message *nats.Msg) { read.Add(int64(len(message.Data))) },
				nats.OrderedConsumer(), nats.DeliverNew())
			if err != nil {
				return nil, err
			}
			if err := subscription.SetPendingLimits(pendingMax, pendingMax); err != nil {
				return nil, err
			}
		}
	}
	return &read, nil
}

// cpuSeconds is the CPU time of a process so far, user and kernel; 0 without one.
func cpuSeconds(pid int) float64 {
	if pid == 0 {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		log.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const ticks = 100 // Linux shows user space hundredths of a second.
	return float64(user+system) / ticks
}
