# Sourced by slurm.sh: a Slurm of one node in $WORK/cluster, on loopback, with a munge of its own. Nothing of an
# installed configuration is read, and it runs as whoever runs the test.
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$WORK/cluster/slurm.conf
daemons=()

free_port() {
    local port
    while port=$((10000 + RANDOM % 20000)) && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# Config_overrides: three tasks run at once also where there are fewer cores. Cred_expire and sched_interval: a requeued
# job waits for 5 s instead of two minutes.
cluster_configure() {
    local user
    user=$(id -un)
    mkdir -p cluster/state cluster/spool
    cat >"$SLURM_CONF" <<END
ClusterName=vidilate
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$WORK/cluster/munge,cred_expire=5
StateSaveLocation=$WORK/cluster/state
SlurmdSpoolDir=$WORK/cluster/spool
SlurmctldPidFile=$WORK/cluster/slurmctld.pid
SlurmdPidFile=$WORK/cluster/slurmd.pid
SlurmctldLogFile=$WORK/cluster/slurmctld.log
SlurmdLogFile=$WORK/cluster/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4
PartitionName=all Nodes=localhost Default=YES
END
}

# until_within SECONDS command...: asks again and again, also where an answer takes long.
until_within() {
    local end=$((SECONDS + $1))
    shift
    until timeout 20 bash -c "$*"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done 2>/dev/null
}

cluster_start() {
    cluster_configure
    (umask 077 && head -c 128 /dev/urandom >cluster/key)
    munged --foreground --force --socket="$WORK/cluster/munge" --key-file=cluster/key --seed-file=cluster/seed \
        --pid-file="$WORK/cluster/munged.pid" --log-file="$WORK/cluster/munged.log" 2>cluster/munged.err &
    daemons+=($!)
    until_within 20 '[ -S cluster/munge ]' || {
        tail -n 5 cluster/munged.*
        return 1
    }
    slurmctld -D 2>cluster/slurmctld.err &
    daemons+=($!)
    slurmd -D -N localhost 2>cluster/slurmd.err &
    daemons+=($!)
    until_within 60 '[ "$(sinfo -h -o %T)" = idle ]' || {
        tail -n 5 cluster/*.log cluster/*.err
        return 1
    }
}

# Jobs first: their processes are not children of this shell.
cluster_stop() {
    if [ -n "$(timeout 10 squeue -h 2>/dev/null)" ]; then
        timeout 10 scancel --full --signal=KILL --user="$(id -un)"
        timeout 10 scancel --user="$(id -un)"
        until_within 20 '[ -z "$(squeue -h)" ]'
    fi
    kill "${daemons[@]}" 2>/dev/null
    for ((i = 0; i < 100; i++)); do
        [ -z "$(jobs -rp)" ] && break
        sleep 0.1
    done
    kill -KILL "${daemons[@]}" 2>/dev/null
    wait
}
