"""Model, data, training and evaluation."""

import PIL.Image
import torch
from datasets import ClassLabel, Dataset, Features, Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, ToTensor


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = x.view(-1, 32 * 2 * 2)
        x = functional.relu(self.fc1(x))
        return self.fc2(x)


transforms = Compose([ToTensor(), Normalize((0.5,), (0.5,))])
images_of_all = None  # read once


def apply_transforms(batch):
    batch["img"] = [transforms(image) for image in batch["img"]]
    return batch


def load_data(partition_id, num_partitions, batch_size):
    global images_of_all
    if images_of_all is None:
        digits = load_digits()
        pixels = (digits.images * 255 / 16).astype("uint8")
        features = Features({"img": Image(), "label": ClassLabel(10)})
        rows = {"img": [PIL.Image.fromarray(image) for image in pixels], "label": digits.target.tolist()}
        images_of_all = Dataset.from_dict(rows, features=features)
    partition = images_of_all.shard(num_partitions, partition_id, contiguous=False)
    parts = partition.train_test_split(test_size=0.2, seed=42).with_transform(apply_transforms)
    trainloader = DataLoader(parts["train"], batch_size=batch_size, shuffle=True)
    return trainloader, DataLoader(parts["test"], batch_size=batch_size)


def train(net, trainloader, epochs, lr, device):
    net.to(device)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    running_loss = 0.0
    for _ in range(epochs):
        for batch in trainloader:
            images, labels = batch["img"], batch["label"]
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
        for batch in testloader:
            images, labels = batch["img"], batch["label"]
            outputs = net(images.to(device))
            loss += functional.cross_entropy(outputs, labels.to(device)).item()
            correct += (outputs.argmax(1) == labels.to(device)).sum().item()
    return loss / len(testloader), correct / len(testloader.dataset)
