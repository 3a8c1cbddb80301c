// segmentio's kafka-go: readers of partitions, groups by generations, and a writer that chooses partitions by itself.
package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"millrace/conformance/lines"
)

type member struct {
	feed  *lines.Feed
	topic string
	// The generation of the group that the member is in, and in which it commits.
	lock       sync.Mutex
	generation *kafka.Generation
	close      func() error
}

var (
	members = map[string]*member{}
	codecs  = map[string]kafka.Compression{"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
)

// transport is one that asks what topics there are: what it was told it believes for seconds, also that there is none of a name.
func transport() *kafka.Transport { return &kafka.Transport{IdleTimeout: time.Second} }

func admin() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(lines.Bootstrap), Timeout: lines.Timeout, Transport: transport()}
}

func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), lines.Timeout)
}

// administer is a verb that asks for something with a bound on its time.
func administer(verb func(context.Context, lines.Asked) (lines.Answer, error)) func(lines.Asked) (lines.Answer, error) {
	return func(a lines.Asked) (lines.Answer, error) {
		ctx, cancel := bounded()
		defer cancel()
		return verb(ctx, a)
	}
}

func createTopic(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	topic := kafka.TopicConfig{Topic: a.Topic, NumPartitions: int(a.Partitions), ReplicationFactor: 1}
	for name, value := range a.Config {
		topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	told, err := admin().CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	if err != nil {
		return nil, err
	}
	return nil, told.Errors[a.Topic]
}

func topics(ctx context.Context, _ lines.Asked) (lines.Answer, error) {
	told, err := admin().Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, topic := range told.Topics {
		names = append(names, topic.Name)
	}
	return lines.Answer{"topics": names}, nil
}

func describeTopic(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().Metadata(ctx, &kafka.MetadataRequest{Topics: []string{a.Topic}})
	if err != nil {
		return nil, err
	}
	return lines.Answer{"partitions": len(told.Topics[0].Partitions)}, told.Topics[0].Error
}

func describeConfig(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: a.Topic}}})
	if err != nil {
		return nil, err
	}
	config := map[string]string{}
	for _, entry := range told.Resources[0].ConfigEntries {
		config[entry.ConfigName] = entry.ConfigValue
	}
	return lines.Answer{"config": config}, told.Resources[0].Error
}

func alterConfig(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: a.Topic}
	for name, value := range a.Config {
		resource.Configs = append(resource.Configs, kafka.IncrementalAlterConfigsRequestConfig{
			Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet})
	}
	told, err := admin().IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{resource}})
	if err != nil {
		return nil, err
	}
	return nil, told.Resources[0].Error
}

func addPartitions(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: a.Topic, Count: int32(a.Count)}}})
	if err != nil {
		return nil, err
	}
	return nil, told.Errors[a.Topic]
}

func deleteTopic(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{a.Topic}})
	if err != nil {
		return nil, err
	}
	return nil, told.Errors[a.Topic]
}

func offsetAt(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{a.Topic: {kafka.TimeOffsetOf(0, time.UnixMilli(a.Timestamp))}}})
	if err != nil {
		return nil, err
	}
	found := told.Topics[a.Topic][0]
	for offset := range found.Offsets {
		return lines.Answer{"offset": offset}, found.Error
	}
	return lines.Answer{"offset": nil}, found.Error
}

func produce(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	writer := &kafka.Writer{Addr: kafka.TCP(lines.Bootstrap), Transport: transport(), Topic: a.Topic, Compression: codecs[a.Codec], BatchBytes: 10_000_000,
		BatchTimeout: 20 * time.Millisecond, MaxAttempts: 3,
		RequiredAcks: map[string]kafka.RequiredAcks{"0": kafka.RequireNone, "1": kafka.RequireOne, "all": kafka.RequireAll}[a.Acks],
		Balancer:     kafka.BalancerFunc(func(kafka.Message, ...int) int { return 0 })}
	defer writer.Close()
	var messages []kafka.Message
	for _, record := range a.Records {
		message := kafka.Message{Key: lines.Bytes(record.Key), Value: lines.Bytes(record.Value)}
		if record.Timestamp != 0 {
			message.Time = time.UnixMilli(record.Timestamp)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: *header[0], Value: lines.Bytes(header[1])})
		}
		messages = append(messages, message)
	}
	err := writer.WriteMessages(ctx, messages...)
	var failed kafka.WriteErrors
	if errors.As(err, &failed) {
		err = failed[0]
	}
	// Offsets are not told.
	return lines.Answer{"offsets": []int64{}}, err
}

func recordOf(message kafka.Message) lines.Record {
	headers := [][2]*string{}
	for _, header := range message.Headers {
		headers = append(headers, [2]*string{&header.Key, lines.Text(header.Value)})
	}
	return lines.Record{Partition: int32(message.Partition), Offset: message.Offset, Key: lines.Text(message.Key),
		Value: lines.Text(message.Value), Headers: headers, Timestamp: message.Time.UnixMilli()}
}

// read feeds a partition from an offset on, until the context ends.
func (m *member) read(ctx context.Context, partition int, start int64, isolation kafka.IsolationLevel, from any) {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{lines.Bootstrap}, Topic: m.topic, Partition: partition,
		MaxBytes: 10_000_000, MaxWait: 200 * time.Millisecond, IsolationLevel: isolation, OffsetOutOfRangeError: true})
	defer reader.Close()
	if err := reader.SetOffset(start); err != nil {
		m.feed.Fail(err)
		return
	}
	for {
		message, err := reader.ReadMessage(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.feed.Fail(err)
			return
		}
		if !m.feed.Put(recordOf(message), from, ctx.Done()) {
			return
		}
	}
}

func open(a lines.Asked) (lines.Answer, error) {
	if a.Reset == "earliest" || a.Reset == "latest" {
		// It goes to the first offset from one before it; of one beyond the end it tells, or waits.
		return nil, lines.ErrUnsupported
	}
	isolation := kafka.ReadUncommitted
	if a.Committed {
		isolation = kafka.ReadCommitted
	}
	ctx, cancel := context.WithCancel(context.Background())
	opened := &member{feed: lines.NewFeed(), topic: a.Topic, close: func() error {
		cancel()
		return nil
	}}
	go opened.read(ctx, 0, a.StartAt(kafka.FirstOffset, kafka.LastOffset), isolation, nil)
	members[a.Member] = opened
	return nil, nil
}

func join(a lines.Asked) (lines.Answer, error) {
	if a.Protocol != "classic" {
		return nil, lines.ErrUnsupported
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: a.Group, Brokers: []string{lines.Bootstrap}, Topics: []string{a.Topic},
		StartOffset: kafka.FirstOffset, HeartbeatInterval: 500 * time.Millisecond, JoinGroupBackoff: 500 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := &member{feed: lines.NewFeed(), topic: a.Topic, close: func() error {
		cancel()
		return group.Close()
	}}
	go func() {
		for {
			generation, err := group.Next(ctx)
			if ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err == nil {
				joined.begin(generation)
			}
		}
	}()
	members[a.Member] = joined
	return nil, nil
}

// begin reads what the member has in a generation, until that ends.
func (m *member) begin(generation *kafka.Generation) {
	m.lock.Lock()
	m.generation = generation
	m.lock.Unlock()
	partitions := []int32{}
	for _, assignment := range generation.Assignments[m.topic] {
		partitions = append(partitions, int32(assignment.ID))
		generation.Start(func(ctx context.Context) {
			m.read(ctx, assignment.ID, assignment.Offset, kafka.ReadCommitted, generation)
		})
	}
	m.feed.Assign(partitions)
	generation.Start(func(ctx context.Context) {
		<-ctx.Done()
		m.feed.Assign(nil)
	})
}

func poll(a lines.Asked) (lines.Answer, error) { return members[a.Member].feed.Poll(a) }

func commit(a lines.Asked) (lines.Answer, error) {
	m := members[a.Member]
	m.lock.Lock()
	defer m.lock.Unlock()
	offsets := map[int]int64{}
	for partition, offset := range m.feed.Polled {
		offsets[int(partition)] = offset
	}
	return nil, m.generation.CommitOffsets(map[string]map[int]int64{m.topic: offsets})
}

func leave(a lines.Asked) (lines.Answer, error) {
	left := members[a.Member]
	delete(members, a.Member)
	return nil, left.close()
}

func main() {
	lines.Serve(lines.Verbs{
		"about": func(lines.Asked) (lines.Answer, error) {
			return lines.Answer{"client": "kafka-go " + lines.Version("github.com/segmentio/kafka-go")}, nil
		},
		"create_topic": administer(createTopic), "topics": administer(topics), "describe_topic": administer(describeTopic),
		"describe_config": administer(describeConfig), "alter_config": administer(alterConfig),
		"add_partitions": administer(addPartitions), "delete_topic": administer(deleteTopic),
		"produce": administer(produce), "offset_at": administer(offsetAt),
		"open": open, "join": join, "poll": poll, "commit": commit, "leave": leave,
	}, func(err error) (int16, bool) {
		var coded kafka.Error
		found := errors.As(err, &coded)
		return int16(coded), found && coded > 0
	})
}
