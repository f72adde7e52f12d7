"""Model, data, training and evaluation."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split


class Adapted(nn.Module):
    """A linear layer that stays as it is, beside two thin ones that are trained (LoRA)."""

    def __init__(self, layer, rank):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


class Net(nn.Module):
    """The frozen layers are the same for all: in a real app they are a public model's."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 256).requires_grad_(False), nn.ReLU())
            hidden, head = nn.Linear(256, 128), nn.Linear(128, 10)
        self.hidden, self.head = Adapted(hidden, 16), Adapted(head, 10)

    def forward(self, x):
        return self.head(functional.relu(self.hidden(self.body(x))))


def adapters_of(net):
    """What travels."""
    return {name: value for name, value in net.state_dict().items() if ".down." in name or ".up." in name}


def load_data(partition_id, num_partitions, batch_size):
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    own = torch.arange(partition_id, len(labels), num_partitions)
    split = torch.Generator().manual_seed(42)
    train_set, test_set = random_split(TensorDataset(images[own], labels[own]), [0.8, 0.2], generator=split)
    return DataLoader(train_set, batch_size=batch_size, shuffle=True), DataLoader(test_set, batch_size=batch_size)


def train(net, trainloader, epochs, lr, device):
    net.to(device)
    net.train()
    optimizer = torch.optim.AdamW([item for item in net.parameters() if item.requires_grad], lr=lr)
    running_loss = 0.0
    for _ in range(epochs):
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
    return running_loss / max(1, epochs * len(trainloader))


def test(net, testloader, device):
    net.to(device)
    net.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for images, labels in testloader:
            outputs = net(images.to(device))
            loss += functional.cross_entropy(outputs, labels.to(device)).item()
            correct += (outputs.argmax(1) == labels.to(device)).sum().item()
    return loss / len(testloader), correct / len(testloader.dataset)
