// Sarama, which pushes what it reads through channels.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"

	"millrace/conformance/lines"
)

type member struct {
	feed  *lines.Feed
	topic string
	// The newest session of the group, and the one in which a record was last polled: only as a member of that may it be committed.
	session, polled sarama.ConsumerGroupSession
	close           func() error
}

var (
	members   = map[string]*member{}
	producers = map[string]sarama.SyncProducer{}
	made      sarama.ClusterAdmin
)

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.MaxMessageBytes = 10_000_000
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Return.Errors = true
	return config
}

func admin() sarama.ClusterAdmin {
	if made == nil {
		var err error
		if made, err = sarama.NewClusterAdmin([]string{lines.Bootstrap}, config()); err != nil {
			panic(err)
		}
	}
	return made
}

func createTopic(a lines.Asked) (lines.Answer, error) {
	entries := map[string]*string{}
	for name, value := range a.Config {
		entries[name] = &value
	}
	return nil, admin().CreateTopic(a.Topic, &sarama.TopicDetail{NumPartitions: a.Partitions, ReplicationFactor: 1, ConfigEntries: entries}, false)
}

func topics(lines.Asked) (lines.Answer, error) {
	told, err := admin().ListTopics()
	names := []string{}
	for name := range told {
		names = append(names, name)
	}
	return lines.Answer{"topics": names}, err
}

func describeTopic(a lines.Asked) (lines.Answer, error) {
	told, err := admin().DescribeTopics([]string{a.Topic})
	if err != nil {
		return nil, err
	}
	if told[0].Err != sarama.ErrNoError {
		return nil, told[0].Err
	}
	return lines.Answer{"partitions": len(told[0].Partitions)}, nil
}

func describeConfig(a lines.Asked) (lines.Answer, error) {
	told, err := admin().DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: a.Topic})
	config := map[string]string{}
	for _, entry := range told {
		config[entry.Name] = entry.Value
	}
	return lines.Answer{"config": config}, err
}

func alterConfig(a lines.Asked) (lines.Answer, error) {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range a.Config {
		entries[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	return nil, admin().IncrementalAlterConfig(sarama.TopicResource, a.Topic, entries, false)
}

func addPartitions(a lines.Asked) (lines.Answer, error) {
	return nil, admin().CreatePartitions(a.Topic, int32(a.Count), nil, false)
}

func deleteRecords(a lines.Asked) (lines.Answer, error) {
	return nil, admin().DeleteRecords(a.Topic, map[int32]int64{a.Partition: a.Before})
}

func deleteTopic(a lines.Asked) (lines.Answer, error) {
	return nil, admin().DeleteTopic(a.Topic)
}

// send waits for all records, and gives the first error.
func send(producer sarama.SyncProducer, topic string, records []lines.Record) ([]int64, error) {
	var messages []*sarama.ProducerMessage
	for _, record := range records {
		message := &sarama.ProducerMessage{Topic: topic, Partition: record.Partition}
		if record.Key != nil {
			message.Key = sarama.StringEncoder(*record.Key)
		}
		if record.Value != nil {
			message.Value = sarama.StringEncoder(*record.Value)
		}
		if record.Timestamp != 0 {
			message.Timestamp = time.UnixMilli(record.Timestamp)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(*header[0]), Value: lines.Bytes(header[1])})
		}
		messages = append(messages, message)
	}
	err := producer.SendMessages(messages)
	var failed sarama.ProducerErrors
	if errors.As(err, &failed) && len(failed) > 0 {
		err = failed[0].Err
	}
	offsets := []int64{}
	for _, message := range messages {
		offsets = append(offsets, message.Offset)
	}
	return offsets, err
}

func produce(a lines.Asked) (lines.Answer, error) {
	config := config()
	config.Producer.RequiredAcks = map[string]sarama.RequiredAcks{
		"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}[a.Acks]
	if err := config.Producer.Compression.UnmarshalText([]byte(a.Codec)); err != nil {
		return nil, err
	}
	producer, err := sarama.NewSyncProducer([]string{lines.Bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	offsets, err := send(producer, a.Topic, a.Records)
	return lines.Answer{"offsets": offsets}, err
}

func offsetAt(a lines.Asked) (lines.Answer, error) {
	client, err := sarama.NewClient([]string{lines.Bootstrap}, config())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	offset, err := client.GetOffset(a.Topic, 0, a.Timestamp)
	return lines.Answer{"offset": offset}, err
}

func recordOf(message *sarama.ConsumerMessage) lines.Record {
	headers := [][2]*string{}
	for _, header := range message.Headers {
		headers = append(headers, [2]*string{lines.Text(header.Key), lines.Text(header.Value)})
	}
	return lines.Record{Partition: message.Partition, Offset: message.Offset, Key: lines.Text(message.Key), Value: lines.Text(message.Value),
		Headers: headers, Timestamp: message.Timestamp.UnixMilli()}
}

func open(a lines.Asked) (lines.Answer, error) {
	if a.Reset == "earliest" || a.Reset == "latest" {
		// Of an offset out of range it tells, and leaves it at that.
		return nil, lines.ErrUnsupported
	}
	config := config()
	if a.Committed {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	consumer, err := sarama.NewConsumer([]string{lines.Bootstrap}, config)
	if err != nil {
		return nil, err
	}
	partition, err := consumer.ConsumePartition(a.Topic, 0, a.StartAt(sarama.OffsetOldest, sarama.OffsetNewest))
	if err != nil {
		consumer.Close()
		return nil, err
	}
	feed := lines.NewFeed()
	go func() {
		for message := range partition.Messages() {
			feed.Put(recordOf(message), nil, nil)
		}
	}()
	go func() {
		for err := range partition.Errors() {
			feed.Fail(err.Err)
		}
	}()
	members[a.Member] = &member{feed: feed, topic: a.Topic, close: func() error {
		close(feed.Done)
		partition.AsyncClose()
		return consumer.Close()
	}}
	return nil, nil
}

// What a group calls.

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.session = session
	m.feed.Assign(session.Claims()[m.topic])
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.feed.Assign(nil)
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, more := <-claim.Messages():
			if !more || !m.feed.Put(recordOf(message), session, session.Context().Done()) {
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func join(a lines.Asked) (lines.Answer, error) {
	if a.Protocol != "classic" {
		return nil, lines.ErrUnsupported
	}
	config := config()
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	group, err := sarama.NewConsumerGroup([]string{lines.Bootstrap}, a.Group, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := &member{feed: lines.NewFeed(), topic: a.Topic}
	joined.close = func() error {
		close(joined.feed.Done)
		cancel()
		return group.Close()
	}
	go func() {
		for range group.Errors() {
			// It goes on by itself.
		}
	}()
	go func() {
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{a.Topic}, joined); err != nil {
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	members[a.Member] = joined
	return nil, nil
}

func poll(a lines.Asked) (lines.Answer, error) {
	m := members[a.Member]
	told, err := m.feed.Poll(a)
	if err == nil && len(told["records"].([]lines.Record)) > 0 {
		m.polled, _ = m.feed.From.(sarama.ConsumerGroupSession)
	}
	return told, err
}

func commit(a lines.Asked) (lines.Answer, error) {
	m := members[a.Member]
	for partition, offset := range m.feed.Polled {
		m.session.MarkOffset(m.topic, partition, offset, "")
	}
	m.session.Commit()
	return nil, nil
}

func leave(a lines.Asked) (lines.Answer, error) {
	left := members[a.Member]
	delete(members, a.Member)
	return nil, left.close()
}

func txnOpen(a lines.Asked) (lines.Answer, error) {
	config := config()
	config.Producer.Transaction.ID = a.ID
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer([]string{lines.Bootstrap}, config)
	producers[a.ID] = producer
	return nil, err
}

func txnOffsets(a lines.Asked) (lines.Answer, error) {
	m, offsets := members[a.Member], []*sarama.PartitionOffsetMetadata{}
	for partition, offset := range m.feed.Polled {
		offsets = append(offsets, &sarama.PartitionOffsetMetadata{Partition: partition, Offset: offset, LeaderEpoch: -1})
	}
	return nil, producers[a.ID].AddOffsetsToTxnWithGroupMetadata(map[string][]*sarama.PartitionOffsetMetadata{m.topic: offsets},
		sarama.NewConsumerGroupMetadataFromSession(m.polled, a.Group, nil))
}

func main() {
	lines.Serve(lines.Verbs{
		"about": func(lines.Asked) (lines.Answer, error) {
			return lines.Answer{"client": "Sarama " + lines.Version("github.com/IBM/sarama")}, nil
		},
		"create_topic": createTopic, "topics": topics, "describe_topic": describeTopic, "describe_config": describeConfig,
		"alter_config": alterConfig, "add_partitions": addPartitions, "delete_records": deleteRecords, "delete_topic": deleteTopic,
		"produce": produce, "offset_at": offsetAt, "open": open, "join": join, "poll": poll, "commit": commit, "leave": leave,
		"txn_open": txnOpen, "txn_offsets": txnOffsets,
		"txn_begin": func(a lines.Asked) (lines.Answer, error) { return nil, producers[a.ID].BeginTxn() },
		"txn_send": func(a lines.Asked) (lines.Answer, error) {
			_, err := send(producers[a.ID], a.Topic, a.Records)
			return nil, err
		},
		"txn_commit": func(a lines.Asked) (lines.Answer, error) { return nil, producers[a.ID].CommitTxn() },
		"txn_abort":  func(a lines.Asked) (lines.Answer, error) { return nil, producers[a.ID].AbortTxn() },
		"txn_close":  func(a lines.Asked) (lines.Answer, error) { return nil, producers[a.ID].Close() },
	}, func(err error) (int16, bool) {
		var coded sarama.KError
		found := errors.As(err, &coded)
		return int16(coded), found && coded >= 0
	})
}
