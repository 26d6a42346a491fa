import java.io.File;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.rocketmq.auth.config.AuthConfig;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.namesrv.NamesrvConfig;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyServerConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/**
 * A RocketMQ name server and broker in one JVM, on loopback, for development and tests.
 *
 * <p>Arguments are {@code key=value}: {@code store} (a folder, required), {@code namesrvPort} (0: any free one), and
 * any property of the broker. One line on stdout tells that both listen. It ends at once when its stdin closes, so a
 * test run that dies leaves no broker behind.
 */
public final class DevBroker {
    private static final String HOST = "127.0.0.1";

    public static void main(String[] args) {
        try {
            NamesrvController nameServer = startNameServer(parse(args));
            String nameServerAddress = HOST + ":" + nameServer.getNettyServerConfig().getListenPort();
            BrokerController broker = startBroker(parse(args), nameServerAddress);
            System.out.println("READY namesrv=" + nameServerAddress + " broker=" + broker.getBrokerAddr());
            while (System.in.read() >= 0) {
                // nothing to read: only its end matters
            }
            Runtime.getRuntime().halt(0);
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1); // RocketMQ's own threads would keep a half started JVM alive
        }
    }

    private static Properties parse(String[] args) {
        Properties given = new Properties();
        for (String arg : args) {
            String[] pair = arg.split("=", 2);
            given.setProperty(pair[0], pair[1]);
        }
        String store = new File(given.getProperty("store")).getAbsolutePath();
        given.setProperty("store", store);
        System.setProperty("user.home", store);
        System.setProperty("rocketmq.home.dir", store);
        // The name server ignores the topics of a broker that does not say its version.
        System.setProperty(RemotingCommand.REMOTING_VERSION_KEY, Integer.toString(MQVersion.CURRENT_VERSION));
        // A development machine with a full disk still gets its broker.
        System.setProperty("rocketmq.broker.diskSpaceWarningLevelRatio", "0.98");
        System.setProperty("rocketmq.broker.diskSpaceCleanForciblyRatio", "0.97");
        return given;
    }

    private static NamesrvController startNameServer(Properties given) throws Exception {
        NamesrvConfig config = new NamesrvConfig();
        config.setKvConfigPath(given.getProperty("store") + "/kv.json");
        NettyServerConfig net = new NettyServerConfig();
        net.setBindAddress(HOST);
        net.setListenPort(Integer.parseInt(given.getProperty("namesrvPort", "0")));
        NamesrvController controller = new NamesrvController(config, net);
        if (!controller.initialize()) {
            throw new IllegalStateException("the name server did not initialize");
        }
        controller.start();
        return controller;
    }

    private static BrokerController startBroker(Properties given, String nameServerAddress) throws Exception {
        Properties properties = new Properties();
        properties.putAll(defaults(given.getProperty("store"), nameServerAddress));
        properties.putAll(given);
        BrokerConfig config = new BrokerConfig();
        NettyServerConfig net = new NettyServerConfig();
        MessageStoreConfig store = new MessageStoreConfig();
        AuthConfig auth = new AuthConfig();
        for (Object target : new Object[] {config, net, store, auth}) {
            MixAll.properties2Object(properties, target);
        }
        auth.setConfigName(config.getBrokerName());
        auth.setClusterName(config.getBrokerClusterName());
        auth.setAuthConfigPath(given.getProperty("store") + "/auth");
        BrokerController controller = new BrokerController(config, net, new NettyClientConfig(), store, auth);
        if (!controller.initialize()) {
            throw new IllegalStateException("the broker did not initialize");
        }
        controller.start();
        return controller;
    }

    private static Map<String, String> defaults(String store, String nameServerAddress) {
        Map<String, String> values = new LinkedHashMap<>();
        values.put("namesrvAddr", nameServerAddress);
        values.put("brokerName", "broker-a");
        values.put("brokerIP1", HOST);
        values.put("bindAddress", HOST);
        values.put("listenPort", "0");
        values.put("haListenPort", "0");
        values.put("storePathRootDir", store + "/store");
        values.put("storePathCommitLog", store + "/store/commitlog");
        // Small files: the defaults reserve gigabytes.
        values.put("mappedFileSizeCommitLog", "67108864");
        values.put("mappedFileSizeConsumeQueue", "200000");
        values.put("maxHashSlotNum", "10000");
        values.put("maxIndexNum", "40000");
        values.put("diskMaxUsedSpaceRatio", "95");
        // 200 ms by default: a busy laptop would answer SYSTEM_BUSY.
        values.put("waitTimeMillsInSendQueue", "5000");
        values.put("timerWheelEnable", "false");
        return values;
    }

    private DevBroker() { }
}
