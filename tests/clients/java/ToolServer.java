// Runs Kafka's command line tools one after the other in one JVM, since starting a JVM for each takes longer than the
// tools themselves. A request is one line of tab-separated fields: a file for standard input (or nothing), the main
// class, its arguments. The answer is a line `STATUS LENGTH`, then LENGTH bytes of what the tool printed.

import java.io.ByteArrayOutputStream;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

import org.apache.kafka.common.utils.internals.Exit;

public class ToolServer {

    /** Thrown where a tool would end the JVM. */
    static final class Ended extends Error {
        final int status;

        Ended(int status) {
            super("exit status " + status, null, false, false);
            this.status = status;
        }
    }

    /** The first status a tool asked for: some catch our exception and ask again with another one. */
    private static volatile Integer asked;

    /** What the tool wants done when the JVM ends: producers send what they hold only then. */
    private static final List<Runnable> hooks = new ArrayList<>();

    private static void exit(int status, String message) {
        if (asked == null) asked = status;
        throw new Ended(status);
    }

    public static void main(String[] unused) throws Exception {
        PrintStream answers = System.out;
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Exit.setExitProcedure(ToolServer::exit);
        Exit.setHaltProcedure(ToolServer::exit);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        String line;
        while ((line = requests.readLine()) != null) {
            String[] fields = line.split("\t", -1);
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            PrintStream out = new PrintStream(printed, true, StandardCharsets.UTF_8);
            int status;
            try (InputStream in = fields[0].isEmpty() ? InputStream.nullInputStream() : new FileInputStream(fields[0])) {
                System.setIn(in);
                System.setOut(out);
                System.setErr(out);
                status = run(fields[1], Arrays.copyOfRange(fields, 2, fields.length));
            } finally {
                out.flush();
            }
            byte[] bytes = printed.toByteArray();
            answers.println(status + " " + bytes.length);
            answers.write(bytes);
            answers.flush();
        }
    }

    private static int run(String tool, String[] args) throws Exception {
        asked = null;
        hooks.clear();
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Ended)) {
                e.getCause().printStackTrace();
                return 1;
            }
        } catch (ReflectiveOperationException e) {
            System.err.println("no such tool: " + e);
            return 1;
        } finally {
            hooks.forEach(Runnable::run);
        }
        return asked == null ? 0 : asked;
    }
}
